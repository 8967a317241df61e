"""Lets torchvision's CUDA build import beside a CPU build of torch. Copied into .venv-vllm.

There is no CPU wheel of torchvision that matches. The CUDA wheel's compiled operators cannot load, and
`torchvision._meta_registrations` then fails because the operators it describes do not exist. The two it
names are declared here, just before that module runs; nothing calls them.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

TARGET = "torchvision._meta_registrations"


class DeclareOperators(importlib.machinery.PathFinder):
    """Finds the target module as usual and hands it a loader that declares the operators first."""

    @classmethod
    def find_spec(cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None):
        if fullname != TARGET:
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _declaring(spec.loader.exec_module)
        return spec


def _declaring(execute):
    def exec_module(module: ModuleType) -> None:
        import torch
        import torchvision.extension

        if not torchvision.extension._has_ops():
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            module.__dict__["_declared"] = library  # lives as long as the module
        execute(module)

    return exec_module


sys.meta_path.insert(0, DeclareOperators)
