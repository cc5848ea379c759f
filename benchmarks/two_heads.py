"""Processor seconds per epoch of the 2-heads network, one and ten members, beside Keras.

    JAX_NUM_CPU_DEVICES=1 taskset -c 0 python benchmarks/two_heads.py

Full size: the original's inputs, 206 targets, batches of 128 (v1). Keras runs in a process of its
own, in the Python that `--keras_python` names, on the backend that KERAS_BACKEND names (PyTorch
by default). Both sides train with the same steps of equal batches of rows that are scaled already;
ours builds the inputs of each member on the device besides, as in the recipe. Compilation and the
first epoch are left out. Processor time compares the sides on one core, as above; with several
cores it also counts threads that spin while they wait.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WIDTHS, PREDICTORS, TARGETS, BATCH = (772, 100), 447, 206, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=155, help="steps of an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--keras_python", default=sys.executable)
    parser.add_argument("--only", choices=("keras", "jax"), help="print one side's JSON")
    options = parser.parse_args()
    if options.only:
        sides = {"keras": lambda: keras_seconds(options), "jax": lambda: jax_seconds(options)}
        print(json.dumps(sides[options.only]()))
        return
    keras = run("keras", options.keras_python)
    ours = run("jax", sys.executable)
    print("| side | members | CPU seconds per epoch | per member | Keras over ours |")
    print("| --- | --- | --- | --- | --- |")
    for side, seconds in (("Keras", keras), ("moa_jax", ours)):
        for members, epoch in seconds.items():
            each = epoch / int(members)
            print(f"| {side} | {members} | {epoch:.1f} | {each:.2f} | {keras['1'] / each:.1f} |")


def run(side: str, python: str) -> dict[str, float]:
    """Returns the seconds per epoch by number of members, measured in a process of its own."""
    environment = {"KERAS_BACKEND": "torch", **os.environ}
    command = [python, __file__, *sys.argv[1:], f"--only={side}"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def data(options) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    rows = options.steps * BATCH
    table = generator.normal(size=(rows, sum(WIDTHS) + 2)).astype(np.float32)
    return table, (generator.random((rows, TARGETS)) < 0.004).astype(np.float32)


def jax_seconds(options) -> dict[int, float]:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import jax

    from moa_jax.features.factors import PrincipalComponents
    from moa_jax.features.standard_scale import StandardScale
    from moa_jax.models.two_heads import TwoHeads
    from moa_jax.recipes import two_heads_inputs
    from moa_jax.recipes.two_heads_resnet import Config
    from moa_jax.training import rules
    from moa_jax.training.layout import Settings
    from moa_jax.training.loop import StageRun
    from moa_jax.training.members import Member
    from moa_jax.training.parallel import Devices
    from moa_jax.training.stage import Forward

    table, targets = data(options)
    fold = {"scale": StandardScale().fit(table[:2000])}
    for group, block, count in (("gene", slice(0, 772), 2), ("cell", slice(772, 872), 100)):
        fitted = PrincipalComponents(count).fit(table[:2000, block].astype(np.float64))
        fold[f"{group}_components"] = fitted
    rows = np.arange(len(table))
    found = {}
    for count in options.members:
        stage = Config().adam_stage(
            lambda stop: rules.lowest_loss(),
            name="benchmark/scored",
            forward=Forward(TwoHeads(TARGETS), two_heads_inputs.two_inputs, inner="auto"),
            members=tuple(Member(seed, 0, rows, rows[:BATCH], rows) for seed in range(count)),
            shared=table,
            targets=targets,
            member_data=two_heads_inputs.member_data(
                [fold] * count, np.arange(PREDICTORS, dtype=np.int32)
            ),
        )
        settings = Settings(Devices.available(), members_at_once=count)
        group = StageRun(stage, Path(), settings, None).group(0)
        state = group.init()
        for epoch in range(options.epochs + 1):
            if epoch == 1:
                start = time.process_time()
            state = group.train_steps(state, epoch)
            jax.block_until_ready(state.step)
        found[count] = (time.process_time() - start) / options.epochs
    return found


def keras_seconds(options) -> dict[int, float]:
    from keras import Input, Model, Sequential, layers, losses, optimizers

    def dense(*widths, dropout=0.0):
        block = Sequential()
        for index, (width, activation) in enumerate(widths):
            block.add(layers.BatchNormalization())
            if index == 0 and dropout:
                block.add(layers.Dropout(dropout))
            block.add(layers.Dense(width, activation))
        return block

    def joined(*inputs):
        return layers.Concatenate()(list(inputs))

    input1, input2 = Input((sum(WIDTHS) + 2 + 102,)), Input((PREDICTORS,))
    output1 = dense((512, "elu"), (256, "elu"), dropout=0.2)(input1)
    answer1 = dense((512, "relu"), dropout=0.3)(joined(output1, input2))
    answer2 = dense((512, "elu"), (256, "relu"))(joined(output1, input2, answer1))
    answer3 = dense((256, "elu"))(joined(answer1, answer2))
    answer3b = dense((256, "relu"))(joined(answer1, answer2, answer3))
    answer4 = dense((256, "selu"), (206, "selu"))(joined(output1, answer2, answer3, answer3b))
    model = Model([input1, input2], dense((TARGETS, "sigmoid"))(answer4))
    assert model.count_params() == 2_591_952
    model.compile(optimizers.Adam(1e-3), losses.BinaryCrossentropy(label_smoothing=5e-4))
    table, targets = data(options)
    inputs = [np.concatenate([table, table[:, :102]], axis=1), table[:, :PREDICTORS]]
    model.fit(inputs, targets, batch_size=BATCH, epochs=1, verbose=0)
    start = time.process_time()
    model.fit(inputs, targets, batch_size=BATCH, epochs=options.epochs, verbose=0)
    return {1: (time.process_time() - start) / options.epochs}


if __name__ == "__main__":
    main()
