/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "soak.h"

static bool is_socket(unsigned id) { return id & 1; }

void channel_open(struct channel *channel, unsigned id, bool socket) {
  int fds[2] = {-1, -1};
  *channel = (struct channel){.id = id << 1 | socket};
  if (is_socket(channel->id)) EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  else EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
  channel->read = fds[0];
  channel->write = fds[1];
}

void channel_close(struct channel *channel) {
  close(channel->read);
  close(channel->write);
}

/* A broken one that no I/O uses any more begins anew. */
void channel_renew(struct channel *channel) {
  if (!channel->broken || channel->reading || channel->writing) return;
  channel_close(channel);
  channel_open(channel, channel->id >> 1, is_socket(channel->id));
}
