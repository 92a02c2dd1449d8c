#!/usr/bin/env bash
# Resolves every lock of the project. Run by `make lock`; arguments go to the resolver, such as --upgrade.
#
# runtime.txt       what the services need, with the build backend; the container image installs this
# dev.txt           the same pins, and what the tests and checks need
#
# and in the engine's blueprint, for every delivered system, the same pins cut down to what it needs:
#
# serve.txt         to serve
# train.txt         to train, test and serve
#
# Every line has its hashes, no line names a host: the installer asks the registry that it is set up for. Wheels
# only, so that nothing is built while installing. One version for all Pythons and platforms.
set -euo pipefail
cd "$(dirname "$0")"
root=../..
engine=$root/services/ml_engineer/blueprint

resolve() { # OUTPUT ARGUMENT...
  local output=$1
  shift
  "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --only-binary :all: \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file "$output" "$@"
}

resolve runtime.txt "$root/pyproject.toml" --extra build "$@"
resolve dev.txt "$root/pyproject.toml" --extra build --extra dev --constraint runtime.txt "$@"
delivered() { # OUTPUT EXTRA...
  resolve "$engine/requirements/$1" "$engine/pyproject.toml" --no-annotate --constraint dev.txt "${@:2}"
}
delivered serve.txt --extra serve "$@"
delivered train.txt --extra serve --extra train --extra test "$@"
