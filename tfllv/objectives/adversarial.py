"""The objective of pix2pix: supervised losses and a discriminator that is trained along (Isola et al., CVPR 2017).

Eq. 4 of arXiv:1611.07004. Generator and discriminator are updated from the same pictures in one step by one optimizer,
each by its own terms alone; the authors update the discriminator first, then the generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from tfllv import contracts
from tfllv.models import pix2pix
from tfllv.objectives import supervised


class Adversarial(supervised.Supervised):
    """Supervised terms, the generator's adversarial term and the discriminator's own, as `Supervised` is called.

    Args:
      adversarial: weight of both adversarial terms; the paper's is 1 beside 100 for L1.
      discriminator_features: channels of the discriminator's first level.
      seed: of the discriminator's weights.
      **options: of `supervised.Supervised`.

    Attributes:
      discriminator: the network that judges.

    Raises:
      ValueError: as `Supervised`, or if `adversarial` is not above 0.
    """

    def __init__(
        self, *, adversarial: float = 1.0, discriminator_features: int = 64, seed: int = 0, **options: Any
    ) -> None:
        super().__init__(seed=seed, **options)
        if not 0 < adversarial < float("inf"):
            raise ValueError(f"`adversarial` must be finite and > 0. Received: adversarial={adversarial}.")
        self.adversarial = adversarial
        self.discriminator = pix2pix.PatchGAN(n_feat=discriminator_features, seed=seed)

    @property
    def variables(self) -> list[Any]:
        """What a checkpoint must hold beside the network."""
        return self.discriminator.variables

    @property
    def trainable_variables(self) -> list[Any]:
        """What is trained beside the network."""
        return self.discriminator.trainable_variables

    def __call__(
        self, model: Any, batch: Mapping[str, Any], *, training: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs both networks; see `Supervised.__call__`. In validation the supervised terms alone are returned."""
        terms, outputs = super().__call__(model, batch, training=training)
        if not training:
            return terms, outputs
        low = ops.convert_to_tensor(batch[contracts.LOW], "float32")
        truth = ops.convert_to_tensor(batch[contracts.HIGH], "float32")
        image = ops.cast(outputs[contracts.IMAGE], "float32")
        # The generator's term must not train the discriminator, nor the discriminator's the generator.
        fixed = [ops.stop_gradient(variable.value) for variable in self.discriminator.trainable_variables]
        seen, _ = self.discriminator.stateless_call(fixed, [], ops.concatenate([low, image], axis=-1))
        real = self.discriminator(ops.concatenate([low, truth], axis=-1))
        fake = self.discriminator(ops.concatenate([low, ops.stop_gradient(image)], axis=-1))
        terms["adversarial"] = self.adversarial * ops.mean(ops.softplus(-seen))
        terms["discriminator"] = 0.5 * self.adversarial * ops.mean(ops.softplus(-real) + ops.softplus(fake))
        return terms, outputs
