"""Feature extractors of Mask R-CNN with a feature pyramid whose masks can have a shape.

TFOD's pyramid extractors (`faster_rcnn_resnet50_fpn_keras` and its deeper kin) bring every proposal down to one vector
by two dense layers, and the mask head is given that vector: enlarged to the size of a mask it is the same in all
places, so what comes out are blobs in the middle of the boxes, however long it trains. The extractors of this module,
`mask_rcnn_resnet50_fpn_keras`, `..101..` and `..152..`, hand on the vector, repeated in all places, beside the crop of
the pyramid that it was made from. The heads of boxes and classes average over the places, so they still see all of the
vector; the mask head is convolutional, as published (He et al. 2017, "Mask R-CNN", arXiv:1703.06870, figure 4 right).

Pipelines that name TFOD's own types are built as ever.
"""

from __future__ import annotations

from typing import Any

_DEPTHS = (50, 101, 152)


def register() -> None:
    """Adds the types to TFOD's table of Faster R-CNN feature extractors. A second call changes nothing.

    `compat.install` comes first.
    """
    from object_detection.builders import model_builder

    table = model_builder.FASTER_RCNN_KERAS_FEATURE_EXTRACTOR_CLASS_MAP
    for depth in _DEPTHS:
        name = f"mask_rcnn_resnet{depth}_fpn_keras"
        if name not in table:
            table[name] = _keeping_places(table[f"faster_rcnn_resnet{depth}_fpn_keras"])


def _keeping_places(extractor: type) -> type:
    """Returns a sub-class whose second stage keeps the places within a proposal."""
    import tensorflow as tf

    class VectorAndCrop(tf.keras.Model):
        """float [N, H, W, C] crops -> [N, H, W, D + C]: the vector of each, in all places, then the crop itself."""

        def __init__(self, vector: Any, name: str | None = None):
            super().__init__(name=name)
            self._vector = vector

        def call(self, crops: Any) -> Any:
            vectors = self._vector(crops)  # [N, 1, 1, D]
            return tf.concat([tf.tile(vectors, [1, *crops.shape[1:3], 1]), crops], axis=-1)

    class Extractor(extractor):
        """As its base, for masks."""

        def get_box_classifier_feature_extractor_model(self, name: str | None = None) -> Any:
            return VectorAndCrop(super().get_box_classifier_feature_extractor_model(name), name=name)

    Extractor.__name__ = extractor.__name__.replace("FasterRCNN", "MaskRCNN")
    return Extractor
