/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The header may come twice, and between others. Compiled as C and as C++. */
#include <paluring.h>
#include <stdio.h>
#include <paluring.h>

#ifndef PALURING_VERSION
#error "PALURING_VERSION is missing"
#endif
#if PALURING_VERSION_NUMBER < 1000
#error "PALURING_VERSION_NUMBER must be fit for #if"
#endif

typedef char paluring_err_is_negative[PALURING_ERR_STALE == -5001 && 0 - PALURING_ERR_DROPPED == 5008 ? 1 : -1];
