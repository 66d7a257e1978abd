// Sends packets of 64 bytes from one thread. Usage: blast IFACE DST-MAC FLOWS, UDP packets round-robin over flows that differ
// in their source address; or blast IFACE DST-MAC FILE, the packets of a file, 64 bytes each, over and over. Then each line
// "MS RATE" on standard input sends for so many milliseconds, so many packets a second or, when RATE is 0, as fast as it
// can, and answers with a line "PACKETS NANOSECONDS" of what the kernel took.
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
#define SECOND 1000000000ul
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
	return t.tv_sec * SECOND + t.tv_nsec;
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

static unsigned char packets[BATCH][SIZE];
static struct mmsghdr messages[BATCH];
static unsigned char *from_file; // NULL: UDP flows
static unsigned count, next;

// Prepares and sends `n` packets. Returns how many the kernel took.
static unsigned send_some(int fd, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (from_file)
			memcpy(packets[i] + 6, from_file + next * SIZE + 6, SIZE - 6);
		else
			set_flow(packets[i], next);
		next = next + 1 == count ? 0 : next + 1;
	}
	int sent = sendmmsg(fd, messages, n, 0);
	return sent > 0 ? sent : 0;
}

static void read_packets(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < SIZE || !(from_file = malloc(size)))
		return;
	rewind(file);
	count = fread(from_file, SIZE, size / SIZE, file);
	fclose(file);
}

int main(int argc, char **argv)
{
	static struct iovec parts[BATCH];
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	unsigned milliseconds, rate, mac[6];
	cpu_set_t cpus;
	int fd;

	if (argc != 4 || sscanf(argv[2], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) {
		fprintf(stderr, "usage: blast IFACE DST-MAC FLOWS|FILE\n");
		return 1;
	}
	count = atoi(argv[3]);
	if (!count)
		read_packets(argv[3]);
	to.sll_ifindex = if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || !to.sll_ifindex || !count) {
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
	while (scanf("%u %u", &milliseconds, &rate) == 2) {
		unsigned long start = now(), end = start + milliseconds * (SECOND / 1000), sent = 0, t = start;

		do {
			unsigned long due = rate ? (double)(t - start) * rate / SECOND + 1 : sent + BATCH;

			if (due > sent)
				sent += send_some(fd, due - sent < BATCH ? due - sent : BATCH);
			else
				nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
			t = now();
		} while (t < end);
		printf("%lu %lu\n", sent, t - start);
		fflush(stdout);
	}
	return 0;
}
