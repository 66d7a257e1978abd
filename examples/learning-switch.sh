#!/bin/sh
# A switch without flows: it learns which MAC address is behind which port, as OVS does without a controller.
# The one line that matters is `ofxdpd --port alice --port bob`; the rest makes two hosts to plug in, and removes them.
# Wants root, iproute2 and ping.
set -eu

bin=$(cd "$(dirname "$0")/../runtime/dist/bin" && pwd)
lab=ofxdp-ls-$$
run=$(mktemp -d)

cleanup() {
  test ! -f "$run/ofxdpd.pid" || kill "$(cat "$run/ofxdpd.pid")"
  for ns in switch alice bob; do ip netns del "$lab-$ns" 2>/dev/null || true; done
  rm -rf "$run"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

ip netns add "$lab-switch"
for host in alice bob; do
  ip netns add "$lab-$host"
  ip -n "$lab-switch" link add $host type veth peer name eth0 netns "$lab-$host"
  ip -n "$lab-switch" link set $host up
  ip -n "$lab-$host" link set eth0 up
done
ip -n "$lab-alice" addr add 10.0.0.1/24 dev eth0
ip -n "$lab-bob" addr add 10.0.0.2/24 dev eth0

ip netns exec "$lab-switch" node "$bin/ofxdpd.js" --port alice --port bob --rundir "$run" --pidfile --detach -v warn

ip netns exec "$lab-alice" ping -c 5 -i 0.2 10.0.0.2

echo
echo "MAC addresses that the switch has learned (ofxdp appctl fdb/show):"
node "$bin/ofxdp.js" appctl --rundir "$run" fdb/show br0
echo
echo "Megaflows in the kernel (ofxdp dump-flows):"
node "$bin/ofxdp.js" dump-flows --rundir "$run"
