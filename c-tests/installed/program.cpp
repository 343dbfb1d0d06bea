// SPDX-License-Identifier: MIT OR Apache-2.0
// The same library from C++: a lambda as the callback.
#include <cstdio>
#include <paluring.h>

int main()
{
	paluring_ring *ring = nullptr;
	int32_t status = paluring_ring_open(nullptr, &ring);
	if (status < 0) {
		std::printf("not ok - paluring_ring_open: %s\n", paluring_strerror(status));
		return 1;
	}
	int called = 0;
	paluring_op op;
	paluring_op_nop(&op);
	op.callback = [](uintptr_t user_data, paluring_completion *completion) {
		*reinterpret_cast<int *>(user_data) = completion->result == 0 ? 1 : -1;
	};
	op.user_data = reinterpret_cast<uintptr_t>(&called);
	paluring_io_start(ring, &op, nullptr);
	paluring_ring_run(ring, 1, -1);
	paluring_ring_close(ring, -1);
	paluring_ring_release(ring);
	return called == 1 ? 0 : 1;
}
