"""Learning as a whole: files, the same for the same seed, a killed run ends as if nothing had happened, clear words."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shoestring.core.errors import BadInput
from shoestring.pretrain import Labelled, Request, load_encoder, load_vectors, pretrain
from shoestring.pretrain.clouds import digest
from shoestring.pretrain.learn import ENCODERS, OBJECTIVES, built, recipe
from shoestring.pretrain.views import Views

Asked = Callable[..., Request]


def same(one: nn.Module, two: nn.Module) -> bool:
    there = two.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_and_leaves_files(
    asked: Asked, clouds: np.ndarray, labels: np.ndarray, objective: str
) -> None:
    request = asked(4, objective=objective)
    told = list[str]()
    done = pretrain(
        clouds, request, Labelled(clouds, labels, 48), lambda text, share: told.append(text), {"from": "us"}
    )
    assert not done.encoder.training
    assert not same(done.encoder, built(request).encoder)
    found, about = load_encoder(request.out)
    assert same(found, done.encoder)
    assert about["objective"] == objective
    assert about["data"] == {"sha256": digest(clouds), "clouds": 14, "points": 80}
    assert about["from"] == "us"
    assert [row["epoch"] for row in about["log"]] == [1, 2, 3, 4]
    assert [row["epoch"] for row in about["log"] if "probe" in row] == [2, 4]
    assert json.loads(request.out.with_suffix(".log.json").read_text()) == about["log"] == done.log
    last = about["log"][-1]
    assert told[-1].endswith(f"probe {last['probe']:.1f} %, rank {last['rank']:.1f}")
    assert not request.out.with_suffix(".training").exists()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    asked: Asked, clouds: np.ndarray, labels: np.ndarray, objective: str
) -> None:
    class Killed(Exception):
        pass

    def stop(text: str, share: float) -> None:
        if share >= 0.5:
            raise Killed

    given = Labelled(clouds, labels, 48)
    symmetry = "none" if objective == "equivariant" else "average"
    request = asked(4, objective=objective, look=Views(symmetry=symmetry, crop=0.8))
    whole = pretrain(clouds, replace(request, out=request.out.with_name("whole.safetensors")), given)
    with pytest.raises(Killed):
        pretrain(clouds, request, given, stop)
    assert not request.out.exists()
    again = pretrain(clouds, request, given)
    assert same(again.encoder, whole.encoder)
    assert again.log == whole.log


def test_a_glance_changes_nothing(asked: Asked, clouds: np.ndarray, labels: np.ndarray) -> None:
    request = asked(3, every=1)
    alone = pretrain(clouds, request)
    seen = pretrain(
        clouds, replace(request, out=request.out.with_name("seen.safetensors")), Labelled(clouds, labels, 48)
    )
    assert same(alone.encoder, seen.encoder)
    assert [row["loss"] for row in alone.log] == [row["loss"] for row in seen.log]


def test_the_seed_decides(asked: Asked, clouds: np.ndarray) -> None:
    request = asked(1)
    torch.manual_seed(5)
    one = pretrain(clouds, request)
    torch.manual_seed(6)
    two = pretrain(clouds, replace(request, out=request.out.with_name("two.safetensors")))
    assert same(one.encoder, two.encoder)
    other = asked(1, recipe=recipe(1, 4, seed=1))
    assert not same(built(other).encoder, built(request).encoder)


def test_checkpoints_of_other_data_are_refused(asked: Asked, clouds: np.ndarray) -> None:
    def stop(text: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(clouds, asked(2), progress=stop)
    with pytest.raises(BadInput, match=r"belongs to another run \(data\.sha256"):
        pretrain(clouds + np.float16(1), asked(2))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_are_those_of_the_zoo(name: str, asked: Asked) -> None:
    from shoestring.models import point_vit

    with torch.device("meta"):
        expected = getattr(point_vit, name)(classes=0)
    found = built(asked(model=name, encoder={})).encoder
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (expected, found)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"objective": "magic"}, "objective: 'magic' is not known; write one of point_mae, "),
        ({"model": "alexnet"}, "model: 'alexnet' is not known; write one of point_vit, "),
        ({"points": 7}, "points: 7 are fewer than 8, the patches or a patch's points; give 8 or more"),
        ({"points": 10, "look": Views(crop=0.7)}, "points: 10, cropped to 7, are fewer than 8, .*; give 12 or more"),
        ({"points": 81}, "points: 81 of 80 cannot be drawn"),
        ({"settings": {"colour": 1}}, "point_mae: has no such setting .*colour"),
        ({"recipe": recipe(2, 0 + 4, lr=1e12)}, "no longer finite in epoch"),
    ],
)
def test_what_cannot_be_done_is_told(asked: Asked, clouds: np.ndarray, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        pretrain(clouds, asked(**wrong))


def test_a_place_that_is_no_file_of_weights_is_told(asked: Asked, clouds: np.ndarray) -> None:
    request = asked()
    with pytest.raises(BadInput, match=r"write NAME\.safetensors"):
        replace(request, out=request.out.with_suffix(".pt"))
    with pytest.raises(BadInput, match="there is no folder"):
        pretrain(clouds, replace(request, out=request.out.parent / "absent" / "one.safetensors"))


def test_vectors_are_kept_where_they_are_learned(asked: Asked, clouds: np.ndarray) -> None:
    request = asked(1, objective="equivariant", settings={"vectors": 3})
    done = pretrain(clouds, request)
    found = load_vectors(request.out)
    assert done.vectors is not None and found is not None
    assert same(found, done.vectors)
    assert found.count == 3
    other = asked(1, objective="contrast", out=request.out.with_name("other.safetensors"))
    assert pretrain(clouds, other).vectors is load_vectors(other.out) is None


def test_pictures_go_with_their_clouds(asked: Asked, clouds: np.ndarray) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (14, 16, 16)).astype(np.uint8)
    request = asked(1, objective="cross_modal")
    done = pretrain(clouds, request, shown=shown)
    assert done.about["data"]["pictures"] == digest(shown)
    drawn = pretrain(clouds, replace(request, out=request.out.with_name("drawn.safetensors")))
    assert "pictures" not in drawn.about["data"]
    assert not same(done.encoder, drawn.encoder)
    with pytest.raises(BadInput, match="pictures: 13 are not one for each of 14 clouds"):
        pretrain(clouds, request, shown=shown[1:])
    with pytest.raises(BadInput, match="pictures: point_mae learns from clouds alone"):
        pretrain(clouds, asked(), shown=shown)
