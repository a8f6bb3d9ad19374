/*
 * The C opinion on XDR: code that rpcgen made from the .x files beside this one, and libtirpc.
 *
 * Reads lines `TYPE HEX`. Decodes the bytes as TYPE, which must take all of them, encodes the
 * result again and answers with its bytes in hex, or with `!` and a reason.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <rpc/rpc.h>
#include <rpc/pmap_prot.h>
#include <rpc/rpcb_prot.h>
#include "nfs3.h"
#include "nfs4.h"
#include "mount.h"
#include "rpcbind.h"
#include "rpc_msg.h"

/*
 * libtirpc decodes a reply's results with a procedure the caller sets. It shares its place with the
 * versions of PROG_MISMATCH, so it is set once, before the reply is known.
 */
static bool_t reply_without_results(XDR *xdrs, struct rpc_msg *msg)
{
	if (xdrs->x_op == XDR_DECODE) {
		msg->acpted_rply.ar_results.where = NULL;
		msg->acpted_rply.ar_results.proc = (xdrproc_t)xdr_void;
	}
	return xdr_replymsg(xdrs, msg);
}

struct type {
	const char *name;
	xdrproc_t proc;
	size_t size;
};

#define TYPE(t) { #t, (xdrproc_t)xdr_##t, sizeof(t) }
#define NFS(p) TYPE(p##3args), TYPE(p##3res)
#define OP(p) TYPE(p##4args)

static const struct type types[] = {
	NFS(GETATTR), NFS(SETATTR), NFS(LOOKUP), NFS(ACCESS), NFS(READLINK), NFS(READ), NFS(WRITE),
	NFS(CREATE), NFS(MKDIR), NFS(SYMLINK), NFS(MKNOD), NFS(REMOVE), NFS(RMDIR), NFS(RENAME),
	NFS(LINK), NFS(READDIR), NFS(READDIRPLUS), NFS(FSSTAT), NFS(FSINFO), NFS(PATHCONF), NFS(COMMIT),
	OP(ACCESS), OP(CLOSE), OP(COMMIT), OP(CREATE), OP(DELEGPURGE), OP(DELEGRETURN), OP(GETATTR), OP(LINK),
	OP(LOCK), OP(LOCKT), OP(LOCKU), OP(LOOKUP), OP(NVERIFY), OP(OPEN), OP(OPENATTR), OP(OPEN_CONFIRM),
	OP(OPEN_DOWNGRADE), OP(PUTFH), OP(READ), OP(READDIR), OP(REMOVE), OP(RENAME), OP(RENEW), OP(SECINFO),
	OP(SETATTR), OP(SETCLIENTID), OP(SETCLIENTID_CONFIRM), OP(VERIFY), OP(WRITE), OP(RELEASE_LOCKOWNER),
	OP(BACKCHANNEL_CTL), OP(BIND_CONN_TO_SESSION), OP(EXCHANGE_ID), OP(CREATE_SESSION),
	OP(DESTROY_SESSION), OP(FREE_STATEID), OP(SECINFO_NO_NAME), OP(SEQUENCE), OP(SET_SSV),
	OP(TEST_STATEID), OP(DESTROY_CLIENTID), OP(RECLAIM_COMPLETE), OP(ALLOCATE), OP(COPY), OP(COPY_NOTIFY),
	OP(DEALLOCATE), OP(IO_ADVISE), OP(OFFLOAD_CANCEL), OP(OFFLOAD_STATUS), OP(READ_PLUS), OP(SEEK),
	OP(CLONE), OP(GETXATTR), OP(SETXATTR), OP(LISTXATTRS), OP(REMOVEXATTR),
	TYPE(stateid4), TYPE(change_info4), TYPE(fattr4), TYPE(bitmap4), TYPE(open_owner4), TYPE(lock_owner4),
	TYPE(LOCK4denied), TYPE(server_owner4), TYPE(channel_attrs4),
	TYPE(dirpath), TYPE(fhstatus), TYPE(mountres3), TYPE(mountlist), TYPE(exports),
	TYPE(x_mapping), TYPE(x_pmaplist), TYPE(x_rpcb), TYPE(x_rpcblist),
	TYPE(x_rpc_msg), TYPE(x_authsys_parms),
	{ "tirpc_callmsg", (xdrproc_t)xdr_callmsg, sizeof(struct rpc_msg) },
	{ "tirpc_replymsg", (xdrproc_t)reply_without_results, sizeof(struct rpc_msg) },
	{ "tirpc_authunix_parms", (xdrproc_t)xdr_authunix_parms, sizeof(struct authunix_parms) },
	{ "tirpc_pmap", (xdrproc_t)xdr_pmap, sizeof(struct pmap) },
	{ "tirpc_rpcb", (xdrproc_t)xdr_rpcb, sizeof(struct rpcb) },
};

static const struct type *find(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

/* Bytes of `hex` in a buffer of exactly their size, so that a memory checker sees any overrun. */
static unsigned char *unhex(const char *hex, size_t *len)
{
	size_t n = strlen(hex) / 2;
	unsigned char *bytes = malloc(n ? n : 1);

	for (size_t i = 0; i < n; i++) {
		unsigned int byte = 0;
		sscanf(hex + 2 * i, "%2x", &byte);
		bytes[i] = (unsigned char)byte;
	}
	*len = n;
	return bytes;
}

static void answer(const struct type *type, unsigned char *bytes, size_t len)
{
	size_t room = len + 4096;
	char *value = calloc(1, type->size);
	char *out = calloc(1, room);
	XDR in_stream, out_stream;

	xdrmem_create(&in_stream, (char *)bytes, (unsigned int)len, XDR_DECODE);
	xdrmem_create(&out_stream, out, (unsigned int)room, XDR_ENCODE);
	if (!type->proc(&in_stream, value)) {
		puts("!decode");
	} else if (xdr_getpos(&in_stream) != len) {
		puts("!trailing");
	} else if (!type->proc(&out_stream, value)) {
		puts("!encode");
	} else {
		size_t n = xdr_getpos(&out_stream);
		for (size_t i = 0; i < n; i++)
			printf("%02x", (unsigned char)out[i]);
		putchar('\n');
	}
	xdr_free(type->proc, value);
	free(value);
	free(out);
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		char *hex = strchr(line, ' ');
		const struct type *type;
		unsigned char *bytes;
		size_t len;

		line[strcspn(line, "\n")] = '\0';
		if (hex == NULL) {
			puts("!line");
			fflush(stdout);
			continue;
		}
		*hex++ = '\0';
		type = find(line);
		bytes = unhex(hex, &len);
		if (type == NULL)
			puts("!type");
		else
			answer(type, bytes, len);
		free(bytes);
		fflush(stdout);
	}
	free(line);
	return 0;
}
