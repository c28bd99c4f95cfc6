/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of TLS: what an alert of the peer means to a person. Pure; any thread. */
#ifndef KEI_NET_TLS_PRIV_H
#define KEI_NET_TLS_PRIV_H

#include <stdbool.h>

#include "base/error.h"

/*
 * The error for a fatal alert (RFC 8446 section 6) that the peer sent. KE_EREFUSED when it is about
 * our certificate, else KE_ETLS. own_cert: whether we have one to show.
 */
int kei_tls_alert_error(struct ke_error *err, int alert, bool own_cert);

#endif
