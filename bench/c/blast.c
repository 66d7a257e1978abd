// Sends UDP packets of 64 bytes as fast as one thread can, round-robin over flows that differ in their source address.
// Usage: blast IFACE DST-MAC FLOWS. Then each line "MS" on standard input sends for so many milliseconds and answers with
// a line "PACKETS NANOSECONDS" of what the kernel took.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define BATCH 64
#define SIZE 64

static const unsigned char template[SIZE] = {
	0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00,			    // Ethernet
	0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 0, 10, 2, 0, 1, // IPv4, 10.1.0.0 > 10.2.0.1
	0x04, 0xd2, 0x00, 0x35, 0, 30, 0, 0,					    // UDP, 1234 > 53
};
enum { IP_AT = 14, IP_CHECK_AT = 24, SRC_AT = 26 };

static unsigned long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ul + t.tv_nsec;
}

static void set_flow(unsigned char *packet, unsigned flow)
{
	unsigned sum = 0, source = 0x0a010000 + flow;

	for (int i = 0; i < 4; i++)
		packet[SRC_AT + i] = source >> (24 - 8 * i);
	packet[IP_CHECK_AT] = packet[IP_CHECK_AT + 1] = 0;
	for (int i = 0; i < 20; i += 2)
		sum += packet[IP_AT + i] << 8 | packet[IP_AT + i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~(sum + (sum >> 16));
	packet[IP_CHECK_AT] = sum >> 8;
	packet[IP_CHECK_AT + 1] = sum;
}

int main(int argc, char **argv)
{
	static unsigned char packets[BATCH][SIZE];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	unsigned flows, next = 0, milliseconds, mac[6];
	cpu_set_t cpus;
	int fd;

	if (argc != 4 || sscanf(argv[2], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) {
		fprintf(stderr, "usage: blast IFACE DST-MAC FLOWS\n");
		return 1;
	}
	flows = atoi(argv[3]);
	to.sll_ifindex = if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || !to.sll_ifindex || !flows) {
		perror("blast");
		return 1;
	}
	// What it sends is carried in its own context: keep both on one processor.
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	for (int i = 0; i < BATCH; i++) {
		memcpy(packets[i], template, SIZE);
		for (int k = 0; k < 6; k++)
			packets[i][k] = mac[k];
		parts[i] = (struct iovec){ packets[i], SIZE };
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &parts[i], .msg_iovlen = 1
		};
	}
	while (scanf("%u", &milliseconds) == 1) {
		unsigned long start = now(), end = start + milliseconds * 1000000ul, sent = 0, t;

		do {
			for (int i = 0; i < BATCH; i++) {
				set_flow(packets[i], next);
				next = next + 1 == flows ? 0 : next + 1;
			}
			int n = sendmmsg(fd, messages, BATCH, 0);
			if (n > 0)
				sent += n;
			t = now();
		} while (t < end);
		printf("%lu %lu\n", sent, t - start);
		fflush(stdout);
	}
	return 0;
}
