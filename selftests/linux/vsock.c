// SPDX-License-Identifier: GPL-2.0-only
/*
 * A line to a peer by AF_VSOCK, and its answer: in a guest with a CID and a port to connect to; on the
 * host with a port alone, where it answers one guest with the same in capitals.
 */
#include <ctype.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	char text[64] = "";
	ssize_t n;

	if (argc < 2 || fd < 0)
		return 2;
	to.svm_port = atoi(argv[argc - 1]);
	if (argc == 2) {
		if (bind(fd, (struct sockaddr *)&to, sizeof(to)) || listen(fd, 1))
			return 3;
		fd = accept(fd, NULL, NULL);
		n = read(fd, text, sizeof(text));
		for (ssize_t i = 0; i < n; i++)
			text[i] = toupper((unsigned char)text[i]);
		return n <= 0 || write(fd, text, n) != n;
	}
	to.svm_cid = atoi(argv[1]);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) || write(fd, "hello host\n", 11) != 11)
		return 4;
	n = read(fd, text, sizeof(text) - 1);
	fputs(text, stdout);
	return n != 11;
}
