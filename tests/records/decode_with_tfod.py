"""Decodes shards with TFOD's own decoder and writes what it gave as .npz: `decode_with_tfod.py OUT SHARD...`.

A script of its own, because the imports of a package of 2022 need help on today's TensorFlow which no other test
should see.
"""

from __future__ import annotations

import sys

from tfllv.detection import compat


def main(output: str, *shards: str) -> None:
    compat.install()
    import numpy as np
    import tensorflow as tf
    from object_detection.data_decoders import tf_example_decoder
    from object_detection.protos import input_reader_pb2

    decoder = tf_example_decoder.TfExampleDecoder(
        load_instance_masks=True,
        instance_mask_type=input_reader_pb2.PNG_MASKS,
        dct_method="INTEGER_ACCURATE",
    )
    found = {}
    for number, record in enumerate(tf.data.TFRecordDataset(list(shards))):
        for key, value in decoder.decode(record).items():
            found[f"{number}/{key}"] = value.numpy()
    np.savez(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
