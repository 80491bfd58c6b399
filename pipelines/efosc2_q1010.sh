#!/usr/bin/env bash
# Reduces the NTT/EFOSC2 frames of the field Q1010-0100, from raw files to warps.
# Usage: pipelines/efosc2_q1010.sh FRAMES REPO
#   FRAMES: directory with the raw bias, flat and science frames (EFOSC.2022-*.fits.gz)
#   REPO:   repository to make
set -euo pipefail
frames=$1
repo=$2
here=$(cd "$(dirname "$0")" && pwd)

butler create "$repo"
butler register-instrument "$repo" EFOSC2
butler write-curated-calibrations "$repo" EFOSC2
butler ingest-raws "$repo" "$frames" --transfer symlink
butler define-visits "$repo" EFOSC2

# Calibration products: a stacked bias, then a flat made with it, each certified for the weeks it holds.
pipetask run -b "$repo" -p "$here/calibs.yaml#cpBias" -i EFOSC2/raw/all,EFOSC2/calib -o EFOSC2/calib/gen/bias \
    -d "instrument='EFOSC2' AND exposure.observation_type='bias'"
butler certify-calibrations "$repo" EFOSC2/calib/gen/bias EFOSC2/calib bias \
    --begin-date 2022-01-20T00:00:00 --end-date 2022-02-05T00:00:00
pipetask run -b "$repo" -p "$here/calibs.yaml#cpFlat" -i EFOSC2/raw/all,EFOSC2/calib -o EFOSC2/calib/gen/flat \
    -d "instrument='EFOSC2' AND exposure.observation_type='flat'" \
    -c cpFlat:doDark=False
butler certify-calibrations "$repo" EFOSC2/calib/gen/flat EFOSC2/calib flat \
    --begin-date 2022-01-20T00:00:00 --end-date 2022-02-05T00:00:00

# Science: the sky map is laid around the visits; warps have the camera's own pixel scale.
butler make-discrete-skymap "$repo" q1010 --instrument EFOSC2 --pixel-scale 0.2408 --patch-size 1200 --patch-border 0
butler define-defaults "$repo" EFOSC2
pipetask run -b "$repo" -p "$here/efosc2.yaml" -i EFOSC2/defaults -o "EFOSC2/runs/q1010" \
    -d "instrument='EFOSC2' AND skymap='q1010' AND exposure.observation_type='science'"
butler query-datasets "$repo" deepCoadd_directWarp --collections EFOSC2/runs/q1010 --find-first

# No catalogue covers the field: the sources of the first exposure become the reference of all, which puts the
# exposures on one system of positions and magnitudes. Detector images are taken from the run above.
butler ingest-reference-catalog "$repo" src instrument=EFOSC2 detector=0 visit=696660901 \
    --collections EFOSC2/runs/q1010 --band g
pipetask run -b "$repo" -p "$here/efosc2.yaml#calibrate,makeWarp" -i EFOSC2/runs/q1010,refcats \
    -o EFOSC2/runs/q1010-relative -d "instrument='EFOSC2' AND skymap='q1010'" \
    -c calibrate:doAstrometry=True -c calibrate:doPhotoCal=True
butler query-datasets "$repo" calexp --collections EFOSC2/runs/q1010-relative --find-first
