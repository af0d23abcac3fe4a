"""Plans under way: kept beside the checkpoints of what they lead to, so that a fit that was stopped goes on with the
plan it had. Timed again, another plan might come out a little ahead, and hours of training would begin anew."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from shoestring.core.proposal import Proposal
from shoestring.core.schema import parse_json, read
from shoestring.deploy.archive import write_file
from shoestring.pipeline.plan import Ground, steps
from shoestring.pipeline.request import Request
from shoestring.pipeline.search import Settled
from shoestring.train import checkpoint

MOST = 8  # plans of one fit that have checkpoints


def place(request: Request, where: Ground, number: int, loss: float | None) -> Path:
    """The file for plan `number`, which is of this network, these inputs, these limits and this device, and no
    other."""
    told = hashlib.sha256(where.original.graph.SerializeToString(deterministic=True))
    for value in where.network.held_out:
        told.update(value.tobytes())
    how = request.without, request.recipe, request.seed, request.reconstruct
    told.update(repr((str(request.budget), how, [one.fingerprint for one in where.devices], number, loss)).encode())
    return request.checkpoints / f"plan-{told.hexdigest()[:12]}.json"


def save(path: Path, settled: Settled) -> None:
    """Raises BadInput when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"proposal": settled.proposal.to_json(), "ms": settled.ms, "taken_back": settled.taken_back}
    write_file(path, json.dumps(told).encode())


def load(path: Path, where: Ground) -> Settled | None:
    """What `save` wrote, None when there is nothing, or nothing that can be read."""
    try:
        told = parse_json(path.read_bytes())
        given = {name: value for name, value in told["proposal"].items() if name != "schema"}
        proposal: Proposal = read(given, Proposal, "proposal")
        back = tuple((str(name), str(why)) for name, why in told["taken_back"])
        ms = float(told["ms"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    idle = {name for name, _ in back}
    found = steps({layer.layer: layer.pick for layer in proposal.layers})
    return Settled(where, proposal, tuple(step for step in found if step.method.CARD.name not in idle), ms, back)


def forget(request: Request) -> None:
    """Takes away what was kept of plans and of their training, once the file is written."""
    for path in request.checkpoints.glob("plan-*.json"):
        path.unlink(missing_ok=True)
    for number in range(1, MOST + 1):
        checkpoint.remove_all(replace(request, number=number).checkpoints)
