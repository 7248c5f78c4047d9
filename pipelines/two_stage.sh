#!/usr/bin/env bash
# Restore first, then recognise: darkened COCO -> a diffusion model -> restored records -> Mask R-CNN continued on them
# -> AP on normal, dark and restored pictures side by side, with drawn masks. TWO_STAGE.md explains each step.
#
#   TRAIN_IMAGES=coco/train2017 TRAIN_ANNOTATIONS=coco/annotations/instances_train2017.json \
#   VAL_IMAGES=coco/val2017 VAL_ANNOTATIONS=coco/annotations/instances_val2017.json \
#   OUT=runs/two_stage bash pipelines/two_stage.sh
#
# Every step goes on where it was stopped; the same command again continues. Cost and result at full size: not measured.
set -euo pipefail

: "${TRAIN_IMAGES:?folder of training pictures}" "${TRAIN_ANNOTATIONS:?their instances_*.json}"
: "${VAL_IMAGES:?folder of validation pictures}" "${VAL_ANNOTATIONS:?their instances_*.json}"
OUT=${OUT:-runs/two_stage}
RECIPE=${RECIPE:-gamma_noise}
SEED=${SEED:-0}
COUNT=${COUNT:-8}                                                  # pictures on the page
DIFFUSION=${DIFFUSION:-configs/diffusion_coco.yaml}
DIFFUSION_SET=${DIFFUSION_SET:-}                                   # further fields, as `epoch=100 batch_size=16`
SAMPLER=${SAMPLER:-steps=10}                                       # options of `tfllv enhance --method diffusion`
PIPELINE=${PIPELINE:-pipelines/mask_rcnn_resnet50_fpn_coco.config}
DETECTOR_SET=${DETECTOR_SET:-}                                     # overrides of both trainings
STEPS_NORMAL=${STEPS_NORMAL:-90000}                                # of the detector on normal light
STEPS_RESTORED=${STEPS_RESTORED:-10000}                            # and, from there, on restored pictures
PYTHON=${PYTHON:-.venv/bin/python}
tfllv() { "$PYTHON" -m tfllv "$@"; }
say() { printf '\n== %s\n' "$*"; }

records() { # records NAME [options]
  "$PYTHON" tools/create_coco_tf_record.py \
    --train_image_dir "$TRAIN_IMAGES" --train_annotations_file "$TRAIN_ANNOTATIONS" \
    --val_image_dir "$VAL_IMAGES" --val_annotations_file "$VAL_ANNOTATIONS" \
    --include_masks --label_map_path pipelines/coco_label_map.pbtxt --output_dir "$OUT/records/$1" "${@:2}"
}

detector() { # detector FOLDER RECORDS STEPS [overrides]
  # shellcheck disable=SC2086  # DETECTOR_SET is a list of words
  "$PYTHON" tools/model_main_tf2.py --pipeline_config_path "$PIPELINE" --model_dir "$OUT/$1" --num_train_steps "$3" \
    --override "train_input_reader.tf_record_input_reader.input_path=$OUT/records/$2/coco_train.record-?????-of-?????" \
    "train_input_reader.label_map_path=pipelines/coco_label_map.pbtxt" $DETECTOR_SET "${@:4}"
}

say "1. Records in normal light, and the same darkened by $RECIPE"
records normal
records dark --darken "$RECIPE" --dark_format png --seed "$SEED"

say "2. Pairs for the diffusion model"
tfllv darken "$TRAIN_IMAGES" -o "$OUT/dark_images" --recipe "$RECIPE" --seed "$((SEED + 1))" --overwrite

say "3. The diffusion model"
# shellcheck disable=SC2086
tfllv train "$DIFFUSION" --workdir "$OUT/diffusion" --set "input_image_dir=$TRAIN_IMAGES" \
  "conditional_image_dir=$OUT/dark_images" $DIFFUSION_SET

say "4. The dark records, restored; annotations stay"
for part in train val; do
  # shellcheck disable=SC2086
  tfllv enhance "$OUT/records/dark/coco_$part.record" -o "$OUT/records/restored" --method diffusion \
    --weights "$OUT/diffusion/final.weights.h5" --set $SAMPLER
done

say "5. Mask R-CNN in normal light, then from its checkpoint on restored pictures"
detector detector_normal normal "$STEPS_NORMAL"
NORMAL=$(sed -n 's/^model_checkpoint_path: "\(.*\)"$/\1/p' "$OUT/detector_normal/checkpoint")
detector detector_restored restored "$STEPS_RESTORED" "train_config.fine_tune_checkpoint=$OUT/detector_normal/$NORMAL" \
  train_config.fine_tune_checkpoint_type=full train_config.fine_tune_checkpoint_version=V2

say "6. Export, and AP side by side"
"$PYTHON" tools/exporter_main_v2.py --pipeline_config_path "$OUT/detector_restored/pipeline.config" \
  --trained_checkpoint_dir "$OUT/detector_restored" --output_directory "$OUT/exported" --overwrite
"$PYTHON" tools/compare_conditions.py --model_dir "$OUT/exported" --count "$COUNT" --output_dir "$OUT/compared" \
  --label_map_path pipelines/coco_label_map.pbtxt --records \
  "normal=$OUT/records/normal/coco_val.record" "dark=$OUT/records/dark/coco_val.record" \
  "restored=$OUT/records/restored/coco_val.record"
