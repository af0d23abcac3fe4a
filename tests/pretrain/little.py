"""A run as a program: little.py OUT [KILL] learns on small clouds and writes OUT; process 0 dies by SIGKILL when the
share KILL of the run is done."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from shoestring.pretrain import Request, Views, pretrain, recipe
from shoestring.train import loop

SMALL = {"dim": 24, "depth": 1, "heads": 3, "patches": 8, "neighbours": 6}

if __name__ == "__main__":
    torch.set_num_threads(1)
    loop.REPORT_SECONDS = loop.SAVE_SECONDS = 0.0
    kill = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    clouds = np.random.default_rng(0).standard_normal((14, 80, 3)).astype(np.float32)

    def told(text: str, share: float) -> None:
        if share >= kill:
            os.kill(os.getpid(), signal.SIGKILL)

    request = Request(
        Path(sys.argv[1]), recipe(4, 4), objective="point_jepa", look=Views(crop=0.8), points=48, encoder=SMALL
    )
    done = pretrain(clouds, request, progress=told)
    rank = os.environ.get("RANK", "0")
    torch.save(done.encoder.state_dict(), f"{sys.argv[1]}-{rank}.pt")
