"""A training script with arguments of its own, which also runs by itself: `python train.py --lr 0.1`."""

import argparse

import numpy as np

import sweeper

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--hidden", type=int, default=16)
parser.add_argument("--epochs", type=int, default=8)
options = parser.parse_args()

random = np.random.default_rng(0)
x = random.uniform(-1, 1, (200, 1))
y = np.sin(3 * x) + random.normal(0, 0.1, x.shape)
w_in, bias = random.normal(0, 1, (1, options.hidden)), np.zeros(options.hidden)
w_out = random.normal(0, options.hidden**-0.5, (options.hidden, 1))
done = 0
if checkpoint := sweeper.resume_from():  # after an interruption: what was reported last
    with np.load(checkpoint) as state:
        w_in, bias, w_out, done = state["w_in"], state["bias"], state["w_out"], int(state["epoch"])

for epoch in range(done + 1, options.epochs + 1):
    for _ in range(20):
        hidden = np.tanh(x[:150] @ w_in + bias)
        error = hidden @ w_out - y[:150]
        back = error @ w_out.T * (1 - hidden**2)
        w_out = w_out - options.lr * hidden.T @ error / 150
        w_in = w_in - options.lr * x[:150].T @ back / 150
        bias = bias - options.lr * back.mean(axis=0)
    rmse = np.sqrt(np.mean((np.tanh(x[150:] @ w_in + bias) @ w_out - y[150:]) ** 2))
    path = sweeper.workdir() / "state.npz"
    np.savez(path, epoch=epoch, w_in=w_in, bias=bias, w_out=w_out)
    sweeper.report(epoch, {"val/rmse": rmse}, path)  # ends the script here when the trial is stopped
