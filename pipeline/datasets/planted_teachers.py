"""What makes the labels of planted data: three forms of logits, which all see a field of rank r by r numbers an id.

Every form adds to its interactions a part that is linear in each field's numbers, a third of the variance: without main
effects a network finds no interaction to start from. Apart from that, no interaction has main effects: however many
numbers a field had, their sum would be one number an id, for which one dimension suffices.
"""

import abc
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.datasets.planted_profiles import PlantedField

Latents = Mapping[str, np.ndarray]  # field name -> float64 [rows, rank]

BIAS = -1.0
MEAN = 0.5  # of each factor: (a + m)(b + m) = a b + m (a + b) + m^2
NUM_RINGS = 2
GAIN = 2.0


class Teacher(abc.ABC):
    """Logits of rows, given the numbers of their ids.

    Args:
        fields: all fields; those of rank 0 are ignored.
        reference: numbers of some rows, by which the parts are scaled to the fields' strengths.
        rng: what the teacher draws from.
    """

    def __init__(self, fields: Sequence[PlantedField], reference: Latents, rng: np.random.Generator):
        self._interacting = [field for field in fields if field.role == "interacting"]
        self._linear = [field for field in fields if field.role == "linear"]
        self._pairs = list(zip(self._interacting[::2], self._interacting[1::2], strict=True))
        self._draw(rng)
        parts = self._interactions(reference)
        self._scales = [strength / np.std(part) for part, strength in zip(parts, self._strengths(), strict=True)]
        self._shift = BIAS - np.mean(self._sum(reference))

    def logits(self, latents: Latents) -> np.ndarray:
        """Logits [rows]."""
        return self._sum(latents) + self._shift

    def _sum(self, latents: Latents) -> np.ndarray:
        # Both shares sum to the strength's square, as those of a b and m (a + b) do.
        main = (2 * MEAN**2 / (1 + 2 * MEAN**2)) ** 0.5
        parts = self._interactions(latents)
        logits = (1 - main**2) ** 0.5 * sum(scale * part for scale, part in zip(self._scales, parts, strict=True))
        for field in self._interacting:
            logits = logits + main * field.strength / (2 * field.rank) ** 0.5 * latents[field.name].sum(1)
        for field in self._linear:
            logits = logits + field.strength * latents[field.name][:, 0]
        return logits

    def _draw(self, rng: np.random.Generator) -> None:  # noqa: B027 - only one form draws anything
        """Draws what the form needs."""

    def _strengths(self) -> list[float]:
        """Standard deviations of the interactions."""
        return [first.strength for first, _ in self._pairs]

    @abc.abstractmethod
    def _interactions(self, latents: Latents) -> list[np.ndarray]:
        """Parts of the logits, [rows] each, to be scaled."""


class Factorisation(Teacher):
    """Of each pair of fields the inner product of their numbers."""

    def _interactions(self, latents):
        return [(latents[a.name] * latents[b.name]).sum(1) for a, b in self._pairs]


class Network(Teacher):
    """A random network with one hidden layer of tanh, over the numbers of all interacting fields.

    Its units mix two numbers of different fields each, and each number enters as many units as any other. From each of them
    two more units are taken away, which read one of its numbers each: the unit's mean over the other number, nearly.
    """

    def _draw(self, rng):
        self._names = [(field.name, k) for field in self._interacting for k in range(field.rank)]
        rings = [self._draw_ring(rng) for _ in range(NUM_RINGS)]
        self._left = np.concatenate(rings)
        self._right = np.concatenate([np.roll(ring, 1) for ring in rings])
        self._weights = GAIN / 2**0.5 * rng.choice([-1, 1], (2, len(self._left)))
        self._biases = rng.choice([-1, 1], len(self._left))
        self._outputs = rng.choice([-1, 1], len(self._left))

    def _draw_ring(self, rng):
        while True:
            ring = rng.permutation(len(self._names))
            if all(self._names[i][0] != self._names[j][0] for i, j in zip(ring, np.roll(ring, 1), strict=True)):
                return ring

    def _strengths(self):
        return [sum(first.strength**2 for first, _ in self._pairs) ** 0.5]

    def _interactions(self, latents):
        numbers = np.concatenate([latents[field.name] for field in self._interacting], axis=1)
        left, right = self._weights[0] * numbers[:, self._left], self._weights[1] * numbers[:, self._right]
        # E tanh(z + s n), n normal, is close to tanh(z / sqrt(1 + pi s^2 / 2)).
        shrunk = (1 + np.pi * GAIN**2 / 4) ** -0.5
        alone = np.tanh(shrunk * (left + self._biases)) + np.tanh(shrunk * (right + self._biases))
        return [(np.tanh(left + right + self._biases) - alone) @ self._outputs]


class Mixed(Teacher):
    """Every other pair of fields by products a b, the others by |a + b| - |a - b|, a b c and (a^2 - 1) b in turn.

    c is a number of the field with the fewest ids among the other pairs.
    """

    def _interactions(self, latents):
        parts = []
        for index, (a, b) in enumerate(self._pairs):
            others = [field for pair in self._pairs for field in pair if field not in (a, b)]
            third = latents[min(others, key=lambda field: field.vocabulary_size).name]
            values = np.zeros(len(third))
            for k in range(a.rank):
                x, y, z = latents[a.name][:, k], latents[b.name][:, k], third[:, k % third.shape[1]]
                shape = k % 3 if index % 2 else 3
                values += (0.8 * (np.abs(x + y) - np.abs(x - y)), x * y * z, (y**2 - 1) * x / 2**0.5, x * y)[shape]
            parts.append(values)
        return parts


TEACHERS: tuple[type[Teacher], ...] = (Factorisation, Network, Mixed)
