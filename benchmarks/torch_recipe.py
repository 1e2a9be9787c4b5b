"""The plain PyTorch loop that training is compared with: the 3-layer CNN on one fold, epochs timed one by one.

Run as a script by an interpreter that has PyTorch; it needs numpy and nothing else of this package::

    python torch_recipe.py fold.npz 10 1 channels_first

The arguments are the file of `benchmarks.training`, epochs, threads and the layout of the images in memory
(``channels_first``, PyTorch's own, or ``channels_last``). The last line of stdout is JSON: ``seconds`` (one an epoch),
``p_given`` (probabilities of the test part from the weights in the file) and ``p_test`` (from those learned here).
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

FILTERS = (8, 16, 32)
BATCH_SIZE_OF_PREDICTION = 32


class Net(nn.Module):
    """Figure 2's net as `tle_utils.models.networks.build` makes it: noise, 3 blocks, scaled features, softmax layer.

    Parameters
    ----------
    side : int
        Rows and columns of the slices.
    n_classes : int
        Outputs.
    noise : float
        Standard deviation of the noise added to the input in training.
    """

    def __init__(self, side, n_classes, noise):
        super().__init__()
        self.noise, blocks, channels = noise, [], 1
        for number, filters in enumerate(FILTERS):
            convolution = nn.Conv2d(channels, filters, 3, padding=1)
            nn.init.kaiming_uniform_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
            blocks += [convolution, nn.ReLU(), nn.BatchNorm2d(filters, eps=1e-3, momentum=0.1)]
            blocks += [nn.MaxPool2d(2)] if number < 2 else []
            channels = filters
        self.blocks, self.dense = nn.Sequential(*blocks), nn.Linear((side // 4) ** 2 * channels, n_classes)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x):
        """Logits, shape (n, classes), of slices (n, 1, rows, columns)."""
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        features = self.blocks(x).flatten(1)
        return self.dense(features * features.shape[1] ** -0.5)

    def load_keras(self, weights):
        """Take the weights of the Keras net, in the order of its ``get_weights``."""
        weights = [torch.from_numpy(np.array(weight)) for weight in weights]
        kept = [layer for layer in self.blocks if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
        for layer in kept:
            if isinstance(layer, nn.Conv2d):
                kernel, bias = weights[:2]
                layer.weight.data, layer.bias.data, weights = kernel.permute(3, 2, 0, 1), bias, weights[2:]
            else:
                layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var = weights[:4]
                weights = weights[4:]
        kernel, self.dense.bias.data = weights
        side = int((len(kernel) // FILTERS[-1]) ** 0.5)
        kernel = kernel.reshape(side, side, FILTERS[-1], -1).permute(3, 2, 0, 1)
        self.dense.weight.data = kernel.reshape(len(kernel), -1)


def _images(array, layout):
    """Slices (n, rows, columns, 1) as a tensor (n, 1, rows, columns)."""
    tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
    return tensor.contiguous(memory_format=layout)


def predict(net, images):
    """Logits (n, classes) of a net in evaluation mode."""
    net.eval()
    with torch.no_grad():
        return torch.cat([net(part) for part in images.split(BATCH_SIZE_OF_PREDICTION)])


def train(net, fold, epochs, layout):
    """Train a net, keep the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    net : Net
        Changed in place.
    fold : mapping of str to numpy.ndarray
        Content of the file.
    epochs : int
        How many.
    layout : torch.memory_format
        Of the images.

    Returns
    -------
    list of float
        Seconds of each epoch: shuffling, steps and the validation pass.
    """
    seen, held = _images(fold["seen"], layout), _images(fold["held"], layout)
    seen_codes, held_codes = (torch.from_numpy(fold[name]).long() for name in ("seen_codes", "held_codes"))
    optimizer = torch.optim.Adam(net.parameters(), float(fold["learning_rate"]), eps=1e-7)
    least, best, seconds = np.inf, None, []
    for _ in range(epochs):
        start = time.monotonic()
        net.train()
        for rows in torch.randperm(len(seen)).split(int(fold["batch_size"])):
            optimizer.zero_grad()
            functional.cross_entropy(net(seen[rows]), seen_codes[rows]).backward()
            optimizer.step()
        loss = functional.cross_entropy(predict(net, held), held_codes).item()
        if loss < least:
            least, best = loss, {name: value.clone() for name, value in net.state_dict().items()}
        seconds.append(time.monotonic() - start)
    net.load_state_dict(best)
    return seconds


def main(path, epochs, threads, layout):
    """Train on the fold in a file and print the JSON line."""
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    layout = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}[layout]
    with np.load(path) as file:
        fold = dict(file)
    weights = [fold[name] for name in sorted(fold) if name.startswith("w_")]
    n_classes, side = len(weights[-1]), fold["seen"].shape[1]
    test, found = _images(fold["test"], layout), {}
    net = Net(side, n_classes, float(fold["noise"])).to(memory_format=layout)
    net.load_keras(weights)
    found["p_given"] = predict(net, test).softmax(dim=1).tolist()
    net = Net(side, n_classes, float(fold["noise"])).to(memory_format=layout)
    found["seconds"] = train(net, fold, int(epochs), layout)
    found["p_test"] = predict(net, test).softmax(dim=1).tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
