"""Runs from pictures to weights and card, on a tiny network: the same seed, a kill in between, bad pictures."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reference_models import create_model, get, model_from_spec, tasks
from reference_models.cards import read_card
from reference_models.choices import configured
from reference_models.errors import UserError
from reference_models.networks import colorization
from reference_models.networks.srgan import VggContentLoss
from reference_models.networks.srgan import _vgg as torch_vgg
from reference_models.pictures import read_picture, write_picture
from reference_models.training import crops, judging, labelled, loop
from reference_models.training import train as train_module
from reference_models.training.loop import Settings
from reference_models.training.losses import LOSSES, mse
from reference_models.training.request import Request, check
from reference_models.training.scenes import scene
from reference_models.training.sources import pictures_of
from reference_models.training.train import Progress, _Ahead, checkpoint_path, made_with, train
from reference_models.weights import read_tensors

HELD_OUT = [("held out", scene(60, 45, seed=99))]


@pytest.fixture(autouse=True)
def one_thread_and_few_open(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(crops, "OPEN_SCENES", 4)
    monkeypatch.setattr(judging, "HELD_OUT_SCENES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        write_picture(path / f"{number}.png", scene(80, 60, seed=number))
    return str(path)


@pytest.fixture
def request_to(tmp_path: Path, folder: str) -> Callable[..., Request]:
    def make(name: str, **changes: Any) -> Request:
        made = Request(
            spec=get("espcn_x2"),
            task=tasks.get("super-resolution x2"),
            output=tmp_path / f"{name}.safetensors",
            settings=Settings(steps=60, rate=2e-3),
            batch=2,
            crop_px=32,
            images=[folder],
            data="three scenes",
            generated=0.0,
            validation=HELD_OUT,
            judged=[("held out", HELD_OUT)],
            validate_every=25,
        )
        return replace(made, **changes)

    return make


def test_a_run_writes_weights_that_load_and_a_card_that_is_true(request_to: Callable[..., Request]) -> None:
    outcome = train(request_to("a"))
    output = request_to("a").output
    create_model("espcn_x2", weights=str(output))
    card = read_card(output)
    assert card == outcome.card
    assert card is not None
    assert (card.model, card.task, card.steps, card.seed) == ("espcn_x2", "super-resolution x2", 60, 0)
    assert card.data == {"three scenes": 3}
    assert card.figures[0].psnr_db == round(outcome.figures[-1][1], 2)
    assert "bicubic" in card.figures[0].baselines
    assert [step for step, _ in outcome.figures] == [25, 50, 60]
    assert np.mean(outcome.losses[-10:]) < np.mean(outcome.losses[:10])


def test_the_same_seed_gives_the_same_weights_and_another_one_others(request_to: Callable[..., Request]) -> None:
    for name in ("a", "b"):
        train(request_to(name))
    train(request_to("c", settings=Settings(steps=60, rate=2e-3, seed=1)))
    a, b, c = (request_to(name).output.read_bytes() for name in "abc")
    assert a == b
    assert a != c


class Killed(BaseException):
    pass


def test_after_a_kill_a_run_goes_on_with_the_same_curve(request_to: Callable[..., Request]) -> None:
    whole = train(request_to("whole"))

    def kill(progress: Progress) -> None:
        if progress.step == 25:
            raise Killed

    with pytest.raises(Killed):
        train(request_to("broken"), kill)
    assert not request_to("broken").output.exists()
    assert checkpoint_path(request_to("broken").output).is_file()
    resumed = train(request_to("broken", resume=True))
    assert resumed.losses == whole.losses
    assert resumed.figures == whole.figures
    assert request_to("broken").output.read_bytes() == request_to("whole").output.read_bytes()


def test_a_finished_run_can_be_prolonged(request_to: Callable[..., Request]) -> None:
    train(request_to("a"))
    longer = request_to("a", resume=True, settings=Settings(steps=75, rate=2e-3))
    assert len(train(longer).losses) == 75


def test_another_run_is_not_gone_on_with(request_to: Callable[..., Request]) -> None:
    train(request_to("a", settings=Settings(steps=1)))
    with pytest.raises(UserError, match="batch was 2 and is 3"):
        train(request_to("a", resume=True, batch=3, settings=Settings(steps=1)))


def test_training_begins_with_weights_that_are_named_without_their_path(
    request_to: Callable[..., Request], tmp_path: Path
) -> None:
    train(request_to("first", settings=Settings(steps=30, rate=2e-3)))
    first = request_to("first").output
    # A rate that changes nothing: what comes out is what went in.
    second = request_to("second", weights=str(first), settings=Settings(steps=1, rate=1e-12))
    card = train(second).card
    for name, tensor in read_tensors(first).items():
        np.testing.assert_allclose(read_tensors(second.output)[name], tensor, atol=1e-6)
    assert card.settings["begun_with"].startswith("first.safetensors, sha256 ")
    assert "30 steps" in card.settings["begun_with"]
    assert (card.steps, card.all_steps) == (1, 31)
    assert card.all_seconds > card.seconds
    assert str(tmp_path) not in second.output.with_suffix(".json").read_text()


def test_broken_pictures_are_left_out_and_counted(request_to: Callable[..., Request], tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write_picture(mixed / "a.png", scene(80, 60, seed=1))
    (mixed / "b.png").write_bytes(b"broken")
    seen: list[int] = []
    outcome = train(request_to("a", images=[str(mixed)]), lambda progress: seen.append(progress.left_out))
    assert [Path(name).name for name in outcome.left_out] == ["b.png"]
    assert seen[-1] == 1
    assert outcome.card.data == {"three scenes": 1}


def test_without_pictures_the_generator_is_named(request_to: Callable[..., Request]) -> None:
    card = train(request_to("a", images=[], settings=Settings(steps=1))).card
    assert list(card.data) == ["generated scenes, 100% of what was drawn"]


def test_the_figure_of_the_card_is_that_of_the_loaded_weights(request_to: Callable[..., Request]) -> None:
    from reference_models.training.judging import psnr_of, trials_of
    from reference_models.training.targets import Targets

    request = request_to("a")
    card = train(request).card
    model = create_model("espcn_x2", weights=str(request.output))
    found = psnr_of(model, request.spec, trials_of(request.task, request.spec, HELD_OUT, Targets()))
    assert round(found[0], 2) == card.figures[0].psnr_db


def test_what_a_run_was_made_with_holds_no_path(request_to: Callable[..., Request], tmp_path: Path) -> None:
    assert str(tmp_path) not in str(made_with(request_to("a")))


def test_int8_goes_on_after_a_kill_too_and_keeps_plain_weights(request_to: Callable[..., Request]) -> None:
    whole = train(request_to("whole", precision="int8"))

    def kill(progress: Progress) -> None:
        if progress.step == 25:
            raise Killed

    with pytest.raises(Killed):
        train(request_to("broken", precision="int8"), kill)
    with pytest.raises(UserError, match="precision was int8 and is fp32"):
        train(request_to("broken", resume=True))
    assert train(request_to("broken", precision="int8", resume=True)).losses == whole.losses
    assert request_to("broken").output.read_bytes() == request_to("whole").output.read_bytes()
    create_model("espcn_x2", weights=str(request_to("whole").output))
    assert whole.card.figures[0].convention.endswith("layers pretend to be int8")
    assert whole.losses != train(request_to("plain")).losses


@pytest.mark.parametrize("fails", ["in a step", "not a number"])
def test_a_step_that_is_left_in_the_middle_is_not_stored(
    request_to: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """What was stored before is gone on with, to the same end."""
    whole = train(request_to("whole"))
    calls = 0

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 30:
            if fails == "in a step":
                raise Killed
            return output.sum() * float("nan")
        return mse(output, target)

    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "mse", loss)
        with pytest.raises((Killed, FloatingPointError)):
            train(request_to("broken"))
    resumed = train(request_to("broken", resume=True))
    assert resumed.losses == whole.losses
    assert request_to("broken").output.read_bytes() == request_to("whole").output.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_wait_for_the_end_of_a_step(
    request_to: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        handler = signal.getsignal(number)  # called as Python does: libraries in here may break real signals
        assert callable(handler)
        handler(number, None)
        return mse(output, target)

    monkeypatch.setitem(LOSSES, "mse", loss)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as bench/cli.py does
    try:
        with pytest.raises(KeyboardInterrupt):
            train(request_to("a"))
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    stored = torch.load(checkpoint_path(request_to("a").output), weights_only=True)
    assert (stored["step"], len(stored["losses"])) == (1, 1)
    assert stored["seconds"] > 0


@pytest.mark.parametrize("pace_s", [0.0, 10.0])
def test_it_is_judged_when_it_was_said_and_stored_in_time_however_slow_its_steps(
    request_to: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, pace_s: float
) -> None:
    written: list[int] = []
    real_step, real_write = loop._step, train_module.checkpoints.write_checkpoint

    def step(state: Any, *rest: Any) -> float:
        state.seconds += pace_s
        return real_step(state, *rest)

    monkeypatch.setattr(loop, "_step", step)
    monkeypatch.setattr(
        train_module.checkpoints,
        "write_checkpoint",
        lambda path, s, made: (written.append(s.step), real_write(path, s, made)),
    )
    outcome = train(request_to("a", settings=Settings(steps=20), validate_every=9))
    assert [at for at, _ in outcome.figures] == [9, 18, 20]
    assert max(np.diff([0, *written])) == (9 if pace_s == 0 else 6)


@pytest.fixture
def vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a VGG of VGG19's layers, of few channels."""
    monkeypatch.setattr(VggContentLoss, "STAGES", ((4, 2), (4, 2), (4, 4), (4, 4), (4, 4)))
    layers = torch_vgg(VggContentLoss.STAGES)
    state = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    torch.save(state, tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


@pytest.mark.parametrize("loss", ["perceptual", "adversarial"])
def test_srgans_losses_go_on_after_a_kill_with_the_same_curve(
    request_to: Callable[..., Request], vgg: Path, loss: str
) -> None:
    spec = configured(get("srgan_x4"), {"batch_norm": "kept"})
    own = {"spec": spec, "task": tasks.get("super-resolution x4"), "crop_px": 32, "validation": []}
    asked: Any = own | {"loss": loss, "vgg": vgg, "settings": Settings(steps=4), "validate_every": 2, "judged": []}
    whole = train(request_to("whole", **asked))
    with pytest.raises(UserError, match=r"loss was .* and is mse"):
        train(request_to("whole", **(asked | {"loss": "mse", "vgg": None, "resume": True})))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "CHUNK", 2)

        def kill(progress: Progress) -> None:
            assert (progress.critic_loss is not None) == (loss == "adversarial")
            raise Killed

        with pytest.raises(Killed):
            train(request_to("killed", **asked), kill)
        resumed = train(request_to("killed", **(asked | {"resume": True})))
    assert resumed.losses == whole.losses
    ends = [torch.load(checkpoint_path(request_to(name).output), weights_only=True) for name in ("whole", "killed")]
    critics = [end.get("critic_losses", torch.empty(0)).tolist() for end in ends]
    assert critics[0] == critics[1]
    assert len(critics[0]) == (4 if loss == "adversarial" else 0)
    assert request_to("killed").output.read_bytes() == request_to("whole").output.read_bytes()
    assert len(resumed.card.settings["vgg"]) == 16
    assert str(vgg.parent) not in resumed.card.resume


def test_a_step_that_the_critic_alone_has_made_is_not_stored(
    request_to: Callable[..., Request], vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "CHUNK", 2)
    own: Any = {"spec": get("srgan_x4"), "task": tasks.get("super-resolution x4"), "crop_px": 32, "vgg": vgg}
    asked: Any = own | {"loss": "adversarial", "settings": Settings(steps=4), "validate_every": 2, "judged": []}
    whole = train(request_to("whole", **asked))
    calls, content = 0, VggContentLoss.forward

    def third_fails(self: VggContentLoss, generated: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:  # the critic has learned from this batch already
            raise Killed
        return content(self, generated, original)

    with monkeypatch.context() as patch:
        patch.setattr(VggContentLoss, "forward", third_fails)
        with pytest.raises(Killed):
            train(request_to("broken", **asked))
    assert torch.load(checkpoint_path(request_to("broken", **asked).output), weights_only=True)["step"] == 2
    assert train(request_to("broken", **(asked | {"resume": True}))).losses == whole.losses
    assert request_to("broken").output.read_bytes() == request_to("whole").output.read_bytes()


def test_srgans_losses_name_what_they_need(request_to: Callable[..., Request], vgg: Path) -> None:
    own: Any = {"spec": get("srgan_x4"), "task": tasks.get("super-resolution x4"), "loss": "adversarial", "crop_px": 32}
    for changes, message in (
        ({}, "--vgg FILE"),
        ({"vgg": vgg, "crop_px": 40}, "--crop 40 is no multiple of 16"),
        ({"vgg": vgg.with_name("none.pth")}, "none.pth.*is not there"),
        ({"vgg": vgg, "loss": "mse"}, "--vgg.*does not use it"),
        ({"vgg": vgg, "spec": get("espcn_x2"), "task": tasks.get("super-resolution x2")}, "espcn_x2` makes luma"),
        ({"vgg": vgg, "batch": 1}, "--batch 1.*2 or more"),
        ({"vgg": vgg, "crop_px": 512}, "--crop 512 is no multiple of 16 up to 256"),
    ):
        with pytest.raises(UserError, match=message):
            check(request_to("a", **(own | changes)))
    torch.save({"features.0.weight": torch.zeros(3)}, vgg)
    with pytest.raises(UserError, match=r"--vgg.*missing: features\.0\.bias"):
        train(request_to("a", **(own | {"vgg": vgg})))


def test_a_network_trained_with_its_norms_is_deployed_without(request_to: Callable[..., Request]) -> None:
    own: Any = {
        "spec": configured(get("srgan_x4"), {"batch_norm": "kept"}),
        "task": tasks.get("super-resolution x4"),
        "judged": [],
    }
    request = request_to("a", **own, validation=[], settings=Settings(steps=2))
    train(request)
    trained = create_model("srgan_x4", batch_norm="kept", weights=str(request.output)).eval()
    deployed = create_model("srgan_x4", weights=str(request.output)).eval()
    x = torch.rand(1, 3, 12, 9)
    with torch.inference_mode():
        torch.testing.assert_close(deployed(x), trained(x), atol=1e-5, rtol=0)


def test_colours_and_scenes_are_learned_together(
    request_to: Callable[..., Request], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"_LOW": ((8, 2), (8, 1), (8, 2), (8, 1), (8, 2), (8, 1)), "_GLOBAL": ((4, 2), (4, 1), (4, 2), (4, 1))}
    for name, layers in few.items():
        monkeypatch.setattr(colorization, name, layers)
    spec = configured(get("colorization"), {"batch_norm": "kept"})
    own: Any = {"spec": spec, "task": tasks.get("colorization"), "validation": [], "judged": []}
    asked = own | {"images": [folder, folder], "scenes": ["in", "out"], "settings": Settings(steps=2)}
    outcome = train(request_to("a", **asked))
    assert outcome.card.settings["scenes"] == ["in", "out"]
    plain = train(request_to("b", **(asked | {"scenes": []})))
    assert outcome.losses[0] > plain.losses[0]
    network = model_from_spec(spec)
    assert isinstance(network, colorization.Colorization)
    head = network.classifier
    assert head is not None
    names = [name for name in read_tensors(request_to("a").output) if name.startswith("classifier.")]
    before, after, unlearned = network.state_dict(), *(read_tensors(request_to(name).output) for name in "ab")
    assert any((before[name].numpy() != after[name]).any() for name in names if name.endswith("weight"))
    assert all((before[name].numpy() == unlearned[name]).all() for name in names if name.endswith("weight"))
    deployed = create_model("colorization", weights=str(request_to("a").output)).eval()
    trained = model_from_spec(spec, str(request_to("a").output)).eval()
    x = torch.rand(1, 1, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(deployed(x), trained(x), atol=1e-5, rtol=0)
    for scenes, message in ((["in", "other"], "scenes was .*other"), ([], "scenes was .* and is None")):
        with pytest.raises(UserError, match=message):
            train(request_to("a", **(asked | {"scenes": scenes, "resume": True})))
    with pytest.raises(UserError, match="tells no scenes"):
        check(request_to("c", scenes=["in", "out"]))


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["espcn_x2", "can24", "red10"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_gpu_learns_what_a_cpu_learns(request_to: Callable[..., Request], model: str, autocast: bool) -> None:
    task = {"can24": "rof", "red10": "denoising sigma 30"}.get(model, "super-resolution x2")
    settings = Settings(steps=10, rate=1e-3, autocast=autocast)
    own: Any = {"spec": get(model), "task": tasks.get(task), "settings": settings}
    here, there = (train(request_to(device, device=device, **own)) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there.losses, here.losses, rtol=0.1 if autocast else 0.03)
    assert there.card.figures[0].psnr_db == pytest.approx(here.card.figures[0].psnr_db, abs=0.3)


def test_batches_made_ahead_are_the_same(request_to: Callable[..., Request]) -> None:
    asked: list[int] = []

    def batch(step: int) -> tuple[int]:
        asked.append(step)
        return (step * step,)

    ahead = _Ahead(batch, 9)
    assert [ahead(step) for step in (0, 1, 2, 7, 8)] == [(0,), (1,), (4,), (49,), (64,)]
    ahead.close()
    assert sorted(asked) == [0, 1, 2, 3, 7, 8]  # none after the last


def test_a_checkpoint_of_an_earlier_version_goes_on(request_to: Callable[..., Request]) -> None:
    """It does not state the precision, and calls a network that passes pictures through `untrained`."""
    request = request_to("a", spec=get("red10"), task=tasks.get("denoising sigma 30"), settings=Settings(steps=1))
    train(request)
    path = checkpoint_path(request.output)
    stored = torch.load(path, weights_only=True)
    assert stored["made_with"]["begun_with"] == "passing the picture through"
    stored["made_with"] = {k: v for k, v in stored["made_with"].items() if k != "precision"} | {
        "begun_with": "untrained"
    }
    torch.save(stored, path)
    assert len(train(replace(request, resume=True, settings=Settings(steps=2))).losses) == 2
    with pytest.raises(UserError, match="precision was fp32 and is int8"):
        train(replace(request, resume=True, precision="int8"))


SMALL_UNET = {"classes": 21, "depth": 2, "width": 4}
CLASSES_OF_SCENES: dict[str, Any] = {
    "spec": get("pixel_dcn", SMALL_UNET),
    "task": tasks.get("segmentation"),
    "loss": "cross-entropy",
    "images": [],
    "validation": [],
    "judged": [],
    "crop_px": 64,
}


def test_classes_are_learned_from_scenes_and_a_kill_changes_nothing(request_to: Callable[..., Request]) -> None:
    changes = {**CLASSES_OF_SCENES, "settings": Settings(steps=90, rate=1e-2), "batch": 4}
    whole = train(request_to("whole", **changes))
    assert np.mean(whole.losses[-30:]) < 0.97 * np.mean(whole.losses[:30])
    figure = whole.card.figures[0]
    assert (figure.pictures, figure.psnr_db) == ("generated scenes, held out", None)
    assert figure.reached == f"mean IoU {figure.mean_iou_percent:.1f} %"
    assert figure.beside.startswith("class 0 everywhere mean IoU ")
    assert "0 ground, 1 plain disc, 2 striped disc" in whole.card.notes[0]
    assert read_card(request_to("whole").output) == whole.card

    def kill(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(request_to("parts", **changes), kill)
    parts = train(request_to("parts", **changes, resume=True))
    assert parts.losses == whole.losses
    assert parts.card.sha256 == whole.card.sha256


def test_scenes_that_judge_are_none_that_were_learned_and_the_card_counts_those(
    request_to: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[int] = []
    for module in (crops, judging):
        real = module.generated_with_map
        monkeypatch.setattr(module, "generated_with_map", lambda n, side, real=real: (met.append(n), real(n, side))[1])
    outcome = train(request_to("a", **{**CLASSES_OF_SCENES, "settings": Settings(steps=7, rate=1e-2)}))
    learned, judged = ({n for n in met if (n >= labelled.HELD_OUT) is held} for held in (False, True))
    assert (len(learned) > 3, len(judged)) == (True, 2)
    assert outcome.card.data == {"generated scenes, 100% of what was drawn": len(learned)}


@pytest.fixture
def own_maps(tmp_path: Path) -> tuple[str, str]:
    """Pictures whose red plane is ten times their map, left half and right half; the third has no map."""
    for name in ("pictures", "maps"):
        (tmp_path / name).mkdir()
    for number in range(3):
        classes = np.zeros((60, 80), np.uint8)
        classes[: 20 + number, 40:] = 1
        classes[:5, :5] = labelled.VOID
        picture = np.stack([10 * (classes == 1), 40 + 0 * classes, 90 + 0 * classes], 2).astype(np.uint8)
        write_picture(tmp_path / "pictures" / f"{number}.png", picture)
        if number < 2:
            Image.fromarray(classes).save(tmp_path / "maps" / f"{number}.png")
    return str(tmp_path / "pictures"), str(tmp_path / "maps")


def test_what_is_learned_of_a_picture_lies_where_its_map_says(own_maps: tuple[str, str]) -> None:
    spec, task = get("pixel_dcn", SMALL_UNET | {"classes": 2}), tasks.get("segmentation")
    pictures = pictures_of([own_maps[0]], 32, labels=labelled.labels_of([own_maps[1]], 2))
    batches = crops.Batches(crops.Plan(task, spec, pictures, 0, batch=4, crop_px=32, generated=0.0))
    seen: set[float] = set()
    for step in range(8):
        x, y = batches.batch(step)
        known = ~np.isnan(y[:, 0])
        np.testing.assert_array_equal(np.round(x[:, 0] * 255 / 10)[known], y[:, 0][known])
        seen |= set(np.unique(np.nan_to_num(y, nan=-1)).tolist())
    assert seen == {-1, 0, 1}


def test_generated_scenes_lie_where_their_maps_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def marked(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        picture, classes = labelled.labelled_scene(96, 80, number)
        picture[..., 0] = 10 * classes
        return picture, classes

    monkeypatch.setattr(crops, "generated_with_map", marked)
    spec, task = get("pixel_dcn", SMALL_UNET), tasks.get("segmentation")
    x, y = crops.Batches(crops.Plan(task, spec, pictures_of([]), 0, batch=4, crop_px=32, generated=0.1)).batch(0)
    np.testing.assert_array_equal(np.round(x[:, 0] * 255 / 10), y[:, 0])


def test_a_picture_without_a_map_is_left_out_and_the_others_are_learned(
    request_to: Callable[..., Request], own_maps: tuple[str, str]
) -> None:
    own = [(f"{number}.png", read_picture(Path(own_maps[0]) / f"{number}.png")) for number in range(2)]
    changes: dict[str, Any] = {
        "spec": get("pixel_dcn", SMALL_UNET | {"classes": 2}),
        "task": tasks.get("segmentation"),
        "loss": "cross-entropy",
        "images": [own_maps[0]],
        "labels": labelled.labels_of([own_maps[1]], 2),
        "settings": Settings(steps=60, rate=2e-2),
        "validation": own,
        "judged": [("own", own)],
    }
    outcome = train(request_to("a", **changes))
    assert [Path(path).name for path in outcome.left_out] == ["2.png"]
    assert "no map of its name" in next(iter(outcome.left_out.values()))
    assert outcome.card.data == {"three scenes": 2}
    assert outcome.card.notes == ()
    figure = outcome.card.figures[0]
    assert (figure.count, round(outcome.figures[-1][1], 2)) == (2, figure.mean_iou_percent)
    assert figure.mean_iou_percent is not None
    assert figure.mean_iou_percent > 20 + figure.baselines["class 0 everywhere"]
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(Path(own_maps[1]) / "2.png")
    with pytest.raises(UserError, match=r"maps was [0-9a-f]+ and is [0-9a-f]+"):
        train(request_to("a", **{**changes, "labels": labelled.labels_of([own_maps[1]], 2)}, resume=True))
