/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stands in for Onload's library: it can be preloaded, and does nothing. */
const char onload_version[] = "1.0";
