"""Self-supervised learning of encoders of point clouds: objectives, their loop, and what features are judged by.

Arrays in, plain files out; `points` reads clouds and the command line brings the two together.
"""

from shoestring.pretrain.clouds import Clouds
from shoestring.pretrain.encoder_file import load_classifier, load_encoder, load_vectors, save_encoder
from shoestring.pretrain.learn import ENCODERS, OBJECTIVES, Pretrained, Request, pretrain, recipe
from shoestring.pretrain.live import Labelled
from shoestring.pretrain.views import Views, features

__all__ = [
    "ENCODERS",
    "OBJECTIVES",
    "Clouds",
    "Labelled",
    "Pretrained",
    "Request",
    "Views",
    "features",
    "load_classifier",
    "load_encoder",
    "load_vectors",
    "pretrain",
    "recipe",
    "save_encoder",
]
