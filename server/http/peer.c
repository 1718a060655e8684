/*
 * peer.c - who may connect: where a trusted proxy is declared and there is no TLS of our own, only
 * that proxy and this machine; and from any other address only so many connections at once, so that
 * one client cannot take all of them.
 */
#include <arpa/inet.h>
#include <string.h>

#include "server/app.h"
#include "server/http/internal.h"
#include "server/log.h"

/* The address as text; of an IPv4 client on an IPv6 socket as IPv4. "" for any other family. */
static void peer_name(const struct sockaddr *address, char out[PEER_BYTES])
{
    const void *bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    int family = address->sa_family;
    if (family == AF_INET6) {
        const struct in6_addr *v6 =
            &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(v6);
        family = mapped ? AF_INET : AF_INET6;
        bytes = mapped ? (const void *)&v6->s6_addr[12] : v6;
    }
    if ((family != AF_INET && family != AF_INET6) || !inet_ntop(family, bytes, out, PEER_BYTES))
        out[0] = '\0';
}

void peer_of(struct MHD_Connection *mhd, char out[PEER_BYTES])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    out[0] = '\0';
    if (info)
        peer_name(info->client_addr, out);
}

enum MHD_Result peer_admit(void *cls, const struct sockaddr *address, socklen_t bytes)
{
    (void)bytes;
    struct http *h = cls;
    const struct config *config = &h->app->config;
    char name[PEER_BYTES];
    int count = 0;
    peer_name(address, name);
    if (strcmp(name, "127.0.0.1") == 0 || strcmp(name, "::1") == 0 ||
        (config->trusted_proxy[0] && strcmp(name, config->trusted_proxy) == 0))
        return MHD_YES;
    if (config->trusted_proxy[0] && !config->tls_certificate[0]) {
        log_debug("connection from %s refused: not the trusted proxy", name);
        return MHD_NO;
    }
    for (const struct connection *c = h->connections; c; c = c->next)
        count += strcmp(c->peer, name) == 0;
    if (count < config->max_connections_per_address)
        return MHD_YES;
    log_debug("connection from %s refused: it has %d", name, count);
    return MHD_NO;
}
