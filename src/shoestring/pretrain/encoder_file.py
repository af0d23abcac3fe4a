"""An encoder as plain files: NAME.safetensors holds the weights, NAME.json what they are and where they come from.

Where vectors were learned beside it (`equivariant`), the layer that makes them of features is in there, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from shoestring.core.errors import BadInput
from shoestring.deploy.archive import write_file
from shoestring.models.point_vit import PointViT
from shoestring.models.weights import load_state, read_weights
from shoestring.pretrain.heads import Vectors

SCHEMA = 1
_VECTORS = "vectors."  # what the names of its weights begin with


def save_encoder(path: Path, encoder: PointViT, about: Mapping[str, Any], vectors: Vectors | None = None) -> None:
    """Writes both files, each in one step, the weights last. `about`: JSON values; `schema`, `model`, `encoder` and
    `vectors`, the arguments that build them, are added. Raises BadInput for another suffix or a place that cannot be
    written."""
    require_name(path)
    described = {"schema": SCHEMA, "model": "point_vit", "encoder": encoder.settings, **about}
    state = {name: value for name, value in encoder.state_dict().items() if not name.startswith("head.")}
    if vectors is not None:
        described["vectors"] = vectors.settings
        state |= {_VECTORS + name: value for name, value in vectors.state_dict().items()}
    write_file(path.with_suffix(".json"), (json.dumps(described, indent=1) + "\n").encode())
    write_file(path, save({name: value.detach().cpu().contiguous() for name, value in state.items()}))


def load_encoder(path: str | Path) -> tuple[PointViT, dict[str, Any]]:
    """The encoder in eval mode, and what its JSON says. Raises BadInput for files that are missing or do not fit."""
    path = Path(path)
    require_name(path)
    about = path.with_suffix(".json")
    try:
        described = json.loads(about.read_text())
        encoder = PointViT(**described["encoder"])
    except FileNotFoundError:
        raise BadInput(f"encoder: {about} is missing; it lies beside the weights that pretrain writes") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"encoder: {about} does not describe one ({error}); give a file that pretrain wrote") from None
    state = {name: value for name, value in read_weights(path).items() if not name.startswith(_VECTORS)}
    load_state(encoder, state, path.name)
    return encoder.eval(), described


def load_vectors(path: str | Path) -> Vectors | None:
    """The layer that makes vectors [B, count, 3] of the features [B, 2 dim] of the encoder in `path`; None where it
    learned none. They turn as the cloud turns, as well as they have learned to. Raises BadInput as `load_encoder`."""
    _, described = load_encoder(path)
    if "vectors" not in described:
        return None
    state = {name: value for name, value in read_weights(path).items() if name.startswith(_VECTORS)}
    try:
        vectors = Vectors(**described["vectors"])
    except TypeError as error:
        raise BadInput(f"encoder: the vectors of {Path(path).name} are not described ({error})") from None
    load_state(vectors, {name.removeprefix(_VECTORS): value for name, value in state.items()}, Path(path).name)
    return vectors.eval()


def load_classifier(path: str | Path, classes: int) -> PointViT:
    """A network xyz [B, N, 3] -> logits [B, classes] to fine-tune: the encoder in `path` and a head that knows nothing.
    Raises BadInput as `load_encoder`."""
    return with_head(load_encoder(path)[0], classes)


def with_head(encoder: PointViT, classes: int) -> PointViT:
    """A copy of `encoder` and, drawn from torch's generator, a head for so many classes."""
    model = PointViT(**encoder.settings, classes=classes)
    head = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    model.load_state_dict(encoder.state_dict() | head)
    return model


def require_name(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise BadInput(f"encoder: {path.name} is not the name of one; write NAME.safetensors")
