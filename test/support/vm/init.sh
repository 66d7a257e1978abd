# How process 1 of the emulated machine goes on, once /host (the host's files, read-only) and /exchange (shared with the
# host for one command, see machine.ts) are there. The root becomes the host's with what is written going to memory, and
# kernel file systems of this machine's own.

mkdir -p /memory /root
mount -t tmpfs -o size=75% tmpfs /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t debugfs debugfs /root/sys/kernel/debug
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
mkdir -p /root/run/exchange /root/run/lock /root/lib/modules
mount --move /exchange /root/run/exchange

# The kernel loads what else is wanted by itself, with the modules of its own release.
for word in $(cat /proc/cmdline); do
  case $word in ofxdp.modules=*) mount --bind "/host${word#*=}" /root/lib/modules ;; esac
done
cp /bin/busybox /root/run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
umount /proc

exec chroot /root /bin/sh -c '
  stty -F /dev/ttyS1 raw
  hostname vm
  ip link set lo up
  sh /run/exchange/command </dev/null >/dev/ttyS1 2>&1
  echo $? >/run/exchange/status
  stty -F /dev/ttyS1 raw # waits until all output is out
  sync
  echo o >/proc/sysrq-trigger
  while :; do sleep 60; done
'
