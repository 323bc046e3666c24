// SPDX-License-Identifier: GPL-2.0-only
/*
 * In a guest: sends UDP packets of 64 bytes as fast as it can, and says by how much the time stamp
 * counter went on. Under QEMU's instruction counting that is the machine's instructions: the guest's,
 * the kernel's and the device model's. Before and after it waits for a line of input.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <x86intrin.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0, sent = 0;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	unsigned long long start;
	char packet[64] = "", line[8];

	if (fd < 0 || !count || !inet_aton(argv[1], &to.sin_addr))
		return 1;
	/* the first one asks for the address */
	sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to));
	printf("ready\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	start = __rdtsc();
	while (sent < count)
		sent += sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to,
			       sizeof(to)) == sizeof(packet);
	printf("%lu packets, %llu ticks\n", sent, __rdtsc() - start);
	fflush(stdout);
	return !fgets(line, sizeof(line), stdin);
}
