"""The mean of the weights of models that were trained on from the same beginning: it often errs
less than any of them, and costs no more than one.

Source: Wortsman et al., Model soups (2022), section 2, uniform soup.

    python -m training.soup DIR1/model DIR2/model --out DIR
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

_WEIGHTS = "model.safetensors"


def mean_of(models: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of tensors of the same names and shapes, in the type that they have; ValueError where two
    models are not of one kind."""
    shapes = [{name: tensor.shape for name, tensor in model.items()} for model in models]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the models differ in the names or shapes of their weights")
    return {
        name: torch.stack([model[name].float() for model in models]).mean(0).to(tensor.dtype)
        for name, tensor in models[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", type=Path, nargs="+", help="model folders")
    parser.add_argument("--out", type=Path, required=True, help="like the first but for weights")
    options = parser.parse_args()
    weights = mean_of([safetensors.torch.load_file(path / _WEIGHTS) for path in options.models])
    shutil.copytree(options.models[0], options.out, dirs_exist_ok=True)
    safetensors.torch.save_file(weights, options.out / _WEIGHTS)


if __name__ == "__main__":
    main()
