#!/bin/sh
# Compiles the campus into an object file and gives it to a loader that knows nothing of ofxdp. Pins go to a BPF file
# system in a mount namespace of this script, so that nothing stays. Wants root, bpftool and util-linux.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

node "$here/../runtime/dist/bin/ofxdp.js" compile "$here/campus.flows" -o "$out/campus.o" --hook tc --report

unshare --mount sh -eu -c '
  mkdir "$1/pins"
  mount -t bpf bpf "$1/pins"
  bpftool prog load "$1/campus.o" "$1/pins/campus"
  echo
  echo "In the kernel (bpftool prog show):"
  bpftool prog show pinned "$1/pins/campus"
  echo
  echo "Flows that its code comes from (source lines in bpftool prog dump xlated):"
  bpftool prog dump xlated pinned "$1/pins/campus" | grep "^; table=" | sort -u
' sh "$out"
