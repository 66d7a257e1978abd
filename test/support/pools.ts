// Few values of each kind, shared by the generators of packets and of flows, so that random flows match random packets.

export const POOLS = {
  macs: [
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    "02:00:00:00:00:03",
    "0e:11:22:33:44:55",
    "01:00:5e:00:00:05",
    "ff:ff:ff:ff:ff:ff",
  ],
  ipv4s: ["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.168.5.129", "224.0.0.5"],
  ipv6s: ["fd00::1", "fd00::2", "fd00:0:1::1", "2001:db8:5:6:7:8:9:a", "ff02::1:ff00:2"],
  vlans: [0, 1, 10, 20, 4095],
  l4ports: [22, 53, 80, 443, 1024, 65535],
  ports: [1, 2, 3, 4],
} as const;
