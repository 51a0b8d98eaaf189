#!/usr/bin/env bash
# How histojax is run. Needs Python >= 3.11 and nothing else; makes .venv and installs what it needs,
# and histojax itself, once.
#   ./run.sh mine DATA [NEW] [FLAGS]
#                               your labelled images DATA to models, a report and one file that
#                               predicts; with predictions and heat maps of the images in NEW
#   ./run.sh crc [--tiles=60] [FLAGS]
#                               a first result on real tissue: eight classes of colorectal tiles,
#                               downloaded; minutes on two cores
#   ./run.sh bach DIR [TEST] [FLAGS]
#                               the same by the paper's protocol, on your copy of BACH; with
#                               predictions of the images in the folder TEST; --download in place
#                               of DIR downloads BACH
#   ./run.sh                    the demo: synthetic tissue, untrained encoders; minutes on two cores
#   ./run.sh accelerator [FLAGS]
#                               what a GPU or TPU does, in 8 minutes: rates, agreement, peers
#   ./run.sh docs               checks and builds the site, into build/site
#   ./run.sh test               lint and tests, with the site
#   ./run.sh test-slow          the tests that take minutes each
#   ./run.sh torture [--minutes=N] [--seed=S] [--campaigns=kills,...] [--case=CASE]
#                               kills runs at every write, and other faults: docs/reliability.md
#   ./run.sh lock               pins all that the tests need in requirements.lock, with hashes
# FLAGS are those of histojax mine, such as --weights_dir=FOLDER.
# LOCKED=1 ./run.sh test installs what requirements.lock names, and nothing else.
# Any step by itself: .venv/bin/histojax, which lists them.
set -euo pipefail
cd "$(dirname "$0")"

# install REQUIREMENTS: into .venv, unless this very file, those it names and pyproject.toml were
# installed there already
install() {
  local python=${PYTHON:-python3} stamp version='import sys; sys.exit(sys.version_info < (3, 11))'
  "$python" -c "$version" || {
    echo "error: histojax needs Python >= 3.11, $python is $("$python" -V 2>&1);" \
      "name another with PYTHON=..." >&2
    exit 1
  }
  stamp=".venv/installed-$(cat requirements*.{txt,lock} pyproject.toml | cksum | cut -d' ' -f1)-$1"
  [ -e "$stamp" ] && return
  echo "installing histojax and $1 into .venv"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
  if [[ $1 == *.lock ]]; then
    # What builds packages first: by default pip fetches the newest for each, without a hash.
    sed -n '/^setuptools==/,/[^\\]$/p' "$1" > .venv/build.lock
    "${pip[@]}" --require-hashes -r .venv/build.lock
    "${pip[@]}" --require-hashes --no-build-isolation -r "$1"
    "${pip[@]}" --no-deps --no-build-isolation -e .
  else
    "${pip[@]}" -r "$1" -e .
  fi
  # This folder by name, so that a clone called histojax is no empty package to a Python beside it.
  .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' |
    while read -r packages; do pwd > "$packages/histojax-folder.pth"; done
  touch "$stamp"
}

case "${1:-demo}" in
  demo)
    install requirements.txt
    .venv/bin/histojax demo
    ;;
  test)
    requirements=requirements-test.txt
    [ -z "${LOCKED:-}" ] || requirements=requirements.lock
    install "$requirements"
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/lint-imports --no-logo
    .venv/bin/python -m pytest -m "not slow" -n 2 --dist loadfile \
      --no-loadscope-reorder "${@:2}"
    ;;
  test-slow)
    install requirements-test.txt
    install requirements-notebooks.txt
    HISTOJAX_COMPILED_AS_USED=1 .venv/bin/python -m pytest -m slow "${@:2}"
    ;;
  torture)
    install requirements-test.txt
    .venv/bin/python -m tests.reliability.torture "${@:2}"
    ;;
  lock)
    inputs=(requirements-test.txt requirements.txt requirements-docs.txt)
    "${PYTHON:-python3}" -m venv build/lock
    build/lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
    {
      echo "# What LOCKED=1 ./run.sh test installs: made by ./run.sh lock, not by hand."
      echo "# Made of ${inputs[*]}, of SHA-256"
      echo "# $(cat "${inputs[@]}" | sha256sum | cut -d' ' -f1)"
      # For all systems at once and every Python from 3.11.
      build/lock/bin/uv pip compile --quiet --native-tls --universal --python-version 3.11 \
        --default-index https://pypi.org/simple --no-header --no-annotate --generate-hashes \
        "${inputs[0]}"
    } > build/requirements.lock
    mv build/requirements.lock .
    ;;
  docs)
    install requirements-test.txt
    .venv/bin/python -m pytest -m "not slow" tests/test_docs.py tests/test_readme.py \
      tests/test_guide.py tests/test_extending.py
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
    echo "site: build/site/index.html"
    ;;
  mine)
    install requirements.txt
    .venv/bin/histojax mine "${@:2}"
    ;;
  accelerator)
    install requirements.txt
    .venv/bin/histojax accelerator "${@:2}"
    ;;
  crc)
    install requirements.txt
    tiles=--tiles=60
    if [[ ${2:-} == --tiles=* ]]; then
      tiles=$2
      set -- crc "${@:3}"
    fi
    .venv/bin/histojax fetch crc "$tiles"
    .venv/bin/histojax mine downloads/crc/labels.csv --run=runs/crc --mpp=0.495 \
      --positive_classes=01_TUMOR --encoders=ResNet \
      --data_licence="Kather et al. 2016, Scientific Reports 6:27988; CC BY 4.0" "${@:2}"
    ;;
  bach)
    install requirements.txt
    if [[ ${2:-} == --download ]]; then
      .venv/bin/histojax fetch bach
      set -- bach downloads/ICIAR2018_BACH_Challenge "${@:3}"
    fi
    .venv/bin/histojax mine --run=runs/bach --protocol=paper --noheatmaps \
      --data_licence="BACH, CC BY-NC-ND 4.0" "${@:2}"
    ;;
  *)
    sed -n '2,25s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
