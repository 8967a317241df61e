"""Model folders: load any image-text-to-text folder, and save one that opens elsewhere.

There is no CPU build of torchvision, and without it transformers' video processors do not import, which
takes the whole processor down with them. Models here read text and images, so their processors are loaded
without the video part; its settings are kept and written back, so that a saved folder is complete.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin
from transformers.models.auto import processing_auto
from transformers.utils import logging

from schemas.errors import ConfigError

PROCESSOR_FILE, IMAGE_FILE, VIDEO_FILE = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
ADAPTER_FILE = "adapter_config.json"
_VIDEO = "video_settings"


@cache
def image_text_class(base: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """`base` without its video processor; a class that has none is returned as it is.

    The subclass keeps its base's name, which is what transformers writes into a saved folder.
    """
    if "video_processor" not in inspect.signature(base.__init__).parameters:
        return base

    # transformers reads a processor's parts off the names in this signature.
    def __init__(  # noqa: N807
        self: ProcessorMixin,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: Any = None,
        **kwargs: Any,
    ) -> None:
        base.__init__(self, image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    return type(base.__name__, (base,), {"__init__": __init__, _VIDEO: None})


def save_student(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    path: str | Path,
    *,
    state_dict: dict[str, Any] | None = None,
) -> Path:
    """Write a folder that transformers (with torchvision or without) and vLLM open.

    Args:
        state_dict: the weights, where the model itself holds only pieces of them.
    Returns: the folder.
    """
    folder = Path(path)
    with hide_progress_bars():
        model.save_pretrained(folder, state_dict=state_dict)
    return save_processor(processor, folder)


def save_processor(processor: ProcessorMixin, path: str | Path) -> Path:
    """Write the processor's files, those of its video part too, as `save_student` does.

    Returns: the folder.
    """
    folder = Path(path)
    # What the last batch was padded to is no part of a tokenizer, but would be written with it.
    backend = getattr(getattr(processor, "tokenizer", None), "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
    processor.save_pretrained(folder)
    settings = _read_json(folder / PROCESSOR_FILE)
    images = settings.get("image_processor")
    if images is not None:
        # The class for torchvision; where that is missing, transformers takes the PIL one by itself.
        images["image_processor_type"] = images["image_processor_type"].removesuffix("Pil")
        _write_json(folder / IMAGE_FILE, images | {"processor_class": settings["processor_class"]})
    video = getattr(processor, _VIDEO, None)
    if video is not None:
        settings["video_processor"] = video
        _write_json(folder / VIDEO_FILE, video)
    _write_json(folder / PROCESSOR_FILE, settings)
    return folder


def load_model(path: str | Path) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A folder's (or hub name's) model, in evaluation mode, and its processor without video.

    Raises: ConfigError: no such folder, or a model that does not read images and text.
    """
    name = str(path)
    if (Path(name) / ADAPTER_FILE).is_file() and not (Path(name) / "config.json").is_file():
        raise ConfigError(
            f"model {name!r}: holds adapters alone; open the model that they were merged into (the --out of "
            "the training), or merge them with peft"
        )
    try:
        with hide_progress_bars():
            config = AutoConfig.from_pretrained(name)
            model = AutoModelForImageTextToText.from_pretrained(name, config=config)
            processor = load_processor(name, config.model_type)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        # What transformers, tokenizers and safetensors raise on a folder that is not whole.
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"model {name!r}: cannot be loaded as an image-text-to-text model: {line}"
        ) from error
    return model.eval(), processor


def load_processor(path: str | Path, model_type: str) -> ProcessorMixin:
    """The processor of a model folder, without its video part.

    Raises: ConfigError: the folder names no processor that this version of transformers knows.
    """
    settings, _ = ProcessorMixin.get_processor_dict(str(path))
    mapped = getattr(processing_auto, "PROCESSOR_MAPPING_NAMES").get(model_type)  # noqa: B009
    class_name = settings.get("processor_class") or mapped
    base = getattr(transformers, str(class_name), None)
    if base is None:
        raise ConfigError(f"model {str(path)!r}: no processor class for model type {model_type!r}")
    processor = image_text_class(base).from_pretrained(str(path))
    return keep_video_settings(processor, _video_settings(path, settings))


def keep_video_settings(processor: ProcessorMixin, settings: dict[str, Any] | None) -> ProcessorMixin:
    """Remember the settings of the video part that was left out, for `save_student`."""
    if hasattr(processor, _VIDEO):
        setattr(processor, _VIDEO, settings)
    return processor


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """transformers' own bars off: the caller shows its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _video_settings(path: str | Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if "video_processor" in settings:
        return dict(settings["video_processor"])
    file = Path(path) / VIDEO_FILE
    return _read_json(file) if file.is_file() else None


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
