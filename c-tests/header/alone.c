/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The header needs no other before it. Compiled as C and as C++. */
#include <paluring.h>
