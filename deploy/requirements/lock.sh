#!/usr/bin/env bash
# Resolves every lock of the project. Run by `make lock`; arguments go to the resolver, such as --upgrade.
#
# runtime.txt       what the services need, with the build backend; the container image installs this
# dev.txt           the same pins, and what the tests and checks need
# engine-serve.txt  the same pins, cut down to what a delivered system needs to serve
# engine-train.txt  ... and to train
#
# Every line has its hashes, no line names a host: the installer asks the registry that it is set up for. Wheels
# only, so that nothing is built while installing. One version for all Pythons and platforms.
set -euo pipefail
cd "$(dirname "$0")"
root=../..
engine=$root/services/ml_engineer/blueprint/pyproject.toml

resolve() { # OUTPUT ARGUMENT...
  local output=$1
  shift
  "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --only-binary :all: \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file "$output" "$@"
}

resolve runtime.txt "$root/pyproject.toml" --extra build "$@"
resolve dev.txt "$root/pyproject.toml" --extra build --extra dev --constraint runtime.txt "$@"
resolve engine-serve.txt "$engine" --no-annotate --extra serve --constraint runtime.txt "$@"
resolve engine-train.txt "$engine" --no-annotate --extra serve --extra train --constraint runtime.txt "$@"
