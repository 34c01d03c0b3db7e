/* The interface of GNU libmicrohttpd 1.0, as uncork's C library implements it.
 *
 * Programs that were built with the original header run on this library as they are. This header is for programs that
 * are built with it. It declares what the library has; README.md of the library says what differs.
 *
 * A function that returns `enum MHD_Result` returns MHD_NO for wrong arguments, NULL among them. Strings end with NUL.
 * Callbacks run on the threads of the daemon.
 */
#ifndef MHD_MICROHTTPD_H
#define MHD_MICROHTTPD_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the interface: major, minor, patch, each of one byte, and a byte that is 0. */
#define MHD_VERSION 0x01000100

enum MHD_Result { MHD_NO = 0, MHD_YES = 1 };

typedef int MHD_socket;
#define MHD_SOCKET_DEFINED 1
#define MHD_POSIX_SOCKETS 1
#define MHD_INVALID_SOCKET (-1)

/* The size of a body that is not known: it is sent in chunks. */
#define MHD_SIZE_UNKNOWN UINT64_MAX
/* What a content reader returns at its end, and after an error, which aborts the connection. */
#define MHD_CONTENT_READER_END_OF_STREAM ((ssize_t) -1)
#define MHD_CONTENT_READER_END_WITH_ERROR ((ssize_t) -2)

#define MHD_UNSIGNED_LONG_LONG unsigned long long
#define MHD_LONG_LONG long long

/* Bits of `flags` of MHD_start_daemon. */
enum MHD_FLAG {
  MHD_NO_FLAG = 0,
  /* Writes a log, to standard error unless MHD_OPTION_EXTERNAL_LOGGER is given. */
  MHD_USE_ERROR_LOG = 1,
  MHD_USE_DEBUG = 1,
  MHD_USE_TLS = 2,
  MHD_USE_SSL = 2,
  /* Each connection has a thread: callbacks may block. */
  MHD_USE_THREAD_PER_CONNECTION = 4,
  /* The daemon has a thread, or as many as MHD_OPTION_THREAD_POOL_SIZE says. Without this flag and the one above, the
     program runs it: MHD_run. */
  MHD_USE_INTERNAL_POLLING_THREAD = 8,
  MHD_USE_SELECT_INTERNALLY = 8,
  MHD_USE_IPv6 = 16,
  MHD_USE_PEDANTIC_CHECKS = 32,
  /* How the system is asked for events makes no difference here: the following is accepted. */
  MHD_USE_POLL = 64,
  MHD_USE_POLL_INTERNAL_THREAD = 64 | 8,
  MHD_USE_POLL_INTERNALLY = 64 | 8,
  MHD_USE_SUPPRESS_DATE_NO_CLOCK = 128,
  MHD_SUPPRESS_DATE_NO_CLOCK = 128,
  /* The daemon does not listen: it serves what MHD_add_connection gives it. */
  MHD_USE_NO_LISTEN_SOCKET = 256,
  MHD_USE_EPOLL = 512,
  MHD_USE_EPOLL_LINUX_ONLY = 512,
  MHD_USE_EPOLL_INTERNAL_THREAD = 512 | 8,
  MHD_USE_EPOLL_INTERNALLY = 512 | 8,
  MHD_USE_EPOLL_INTERNALLY_LINUX_ONLY = 512 | 8,
  MHD_USE_ITC = 1024,
  MHD_USE_PIPE_FOR_SHUTDOWN = 1024,
  /* IPv6 and IPv4 on one socket. */
  MHD_USE_DUAL_STACK = 16 | 2048,
  MHD_USE_TURBO = 4096,
  MHD_USE_EPOLL_TURBO = 4096,
  /* Needed for MHD_suspend_connection. */
  MHD_ALLOW_SUSPEND_RESUME = 8192 | 1024,
  MHD_USE_SUSPEND_RESUME = 8192 | 1024,
  MHD_USE_TCP_FASTOPEN = 16384,
  MHD_ALLOW_UPGRADE = 32768,
  MHD_USE_AUTO = 65536,
  MHD_USE_AUTO_INTERNAL_THREAD = 65536 | 8,
  MHD_USE_POST_HANDSHAKE_AUTH_SUPPORT = 1U << 17,
  MHD_USE_INSECURE_TLS_EARLY_DATA = 1U << 18,
  MHD_USE_NO_THREAD_SAFETY = 1U << 19
};

/* Options of MHD_start_daemon. Each is followed by its arguments; nothing behind the first MHD_OPTION_END is read. */
enum MHD_OPTION {
  MHD_OPTION_END = 0,
  /* size_t: bytes of a request's head. */
  MHD_OPTION_CONNECTION_MEMORY_LIMIT = 1,
  /* unsigned int: connections in total; further ones wait. */
  MHD_OPTION_CONNECTION_LIMIT = 2,
  /* unsigned int: seconds without any activity; 0 for none. */
  MHD_OPTION_CONNECTION_TIMEOUT = 3,
  /* MHD_RequestCompletedCallback, void *: called at the end of each request. */
  MHD_OPTION_NOTIFY_COMPLETED = 4,
  /* unsigned int: connections from one address; further ones are closed. */
  MHD_OPTION_PER_IP_CONNECTION_LIMIT = 5,
  /* const struct sockaddr *: the address to listen on. */
  MHD_OPTION_SOCK_ADDR = 6,
  /* A function, void *: called with each request target; returns the first value of *req_cls. */
  MHD_OPTION_URI_LOG_CALLBACK = 7,
  /* const char *: the private key and the certificate of an HTTPS daemon, as PEM. With several of each, the client gets
     the certificate of the name that it asks for (SNI). */
  MHD_OPTION_HTTPS_MEM_KEY = 8,
  MHD_OPTION_HTTPS_MEM_CERT = 9,
  MHD_OPTION_HTTPS_CRED_TYPE = 10,
  /* const char *: words of GnuTLS. Those of the versions are obeyed (VERS-TLS1.2, VERS-TLS1.3, VERS-ALL), others have
     no effect. */
  MHD_OPTION_HTTPS_PRIORITIES = 11,
  /* MHD_socket: a socket that listens. It stays the program's, and open. */
  MHD_OPTION_LISTEN_SOCKET = 12,
  /* MHD_LogCallback, void * */
  MHD_OPTION_EXTERNAL_LOGGER = 13,
  /* unsigned int: threads. */
  MHD_OPTION_THREAD_POOL_SIZE = 14,
  /* struct MHD_OptionItem *: more options, up to one with MHD_OPTION_END. */
  MHD_OPTION_ARRAY = 15,
  /* A function, void *: decodes a string in place, and returns its length. */
  MHD_OPTION_UNESCAPE_CALLBACK = 16,
  /* size_t, const char *: bytes for the key of nonces. It has random bytes of the system in any case. */
  MHD_OPTION_DIGEST_AUTH_RANDOM = 17,
  /* unsigned int: nonces that can be in use at the same time. 1024 without it. */
  MHD_OPTION_NONCE_NC_SIZE = 18,
  MHD_OPTION_THREAD_STACK_SIZE = 19,
  /* const char *: asks clients for a certificate by one of these authorities (PEM). */
  MHD_OPTION_HTTPS_MEM_TRUST = 20,
  MHD_OPTION_CONNECTION_MEMORY_INCREMENT = 21,
  MHD_OPTION_HTTPS_CERT_CALLBACK = 22,
  MHD_OPTION_TCP_FASTOPEN_QUEUE_SIZE = 23,
  MHD_OPTION_HTTPS_MEM_DHPARAMS = 24,
  /* unsigned int: 1 lets other sockets have the same address, 0 forbids it. */
  MHD_OPTION_LISTENING_ADDRESS_REUSE = 25,
  /* const char *: the password of the private key, which is in PKCS#8. */
  MHD_OPTION_HTTPS_KEY_PASSWORD = 26,
  /* MHD_NotifyConnectionCallback, void *: called when a connection begins and ends. */
  MHD_OPTION_NOTIFY_CONNECTION = 27,
  /* unsigned int: connections that the system queues. */
  MHD_OPTION_LISTEN_BACKLOG_SIZE = 28,
  /* int: accepted; the parser is always strict. */
  MHD_OPTION_STRICT_FOR_CLIENT = 29,
  MHD_OPTION_GNUTLS_PSK_CRED_HANDLER = 30,
  MHD_OPTION_HTTPS_CERT_CALLBACK2 = 31,
  MHD_OPTION_SERVER_INSANITY = 32,
  MHD_OPTION_SIGPIPE_HANDLED_BY_APP = 33,
  MHD_OPTION_TLS_NO_ALPN = 34,
  /* size_t, const char *: the same as MHD_OPTION_DIGEST_AUTH_RANDOM, which copies the bytes, too. */
  MHD_OPTION_DIGEST_AUTH_RANDOM_COPY = 35,
  /* unsigned int: bits of enum MHD_DAuthBindNonce. */
  MHD_OPTION_DIGEST_AUTH_NONCE_BIND_TYPE = 36,
  MHD_OPTION_HTTPS_PRIORITIES_APPEND = 37,
  /* int: accepted; the parser is always strict. */
  MHD_OPTION_CLIENT_DISCIPLINE_LVL = 38,
  MHD_OPTION_APP_FD_SETSIZE = 39,
  /* socklen_t, const struct sockaddr *: the address to listen on, with its length. */
  MHD_OPTION_SOCK_ADDR_LEN = 40,
  /* unsigned int: seconds that a nonce is valid. 90 without it, or for 0. */
  MHD_OPTION_DIGEST_AUTH_DEFAULT_NONCE_TIMEOUT = 41,
  /* uint32_t: how often a nonce can be used. 1000 without it, or for 0. */
  MHD_OPTION_DIGEST_AUTH_DEFAULT_MAX_NC = 42,
  MHD_OPTION_ALLOW_BIN_ZERO_IN_URI_PATH = 43
};

enum MHD_DisableSanityCheck { MHD_DSC_SANE = 0 };

/* An option in an array. `value` is a number, or the first of two pointers; `ptr_value` is the other pointer. */
struct MHD_OptionItem {
  enum MHD_OPTION option;
  intptr_t value;
  void *ptr_value;
};

/* Where a value of a request comes from; the functions for values take several at once. */
enum MHD_ValueKind {
  MHD_RESPONSE_HEADER_KIND = 0,
  MHD_HEADER_KIND = 1,
  MHD_COOKIE_KIND = 2,
  MHD_POSTDATA_KIND = 4,
  MHD_GET_ARGUMENT_KIND = 8,
  MHD_FOOTER_KIND = 16
};

/* Why a request has ended. */
enum MHD_RequestTerminationCode {
  MHD_REQUEST_TERMINATED_COMPLETED_OK = 0,
  MHD_REQUEST_TERMINATED_WITH_ERROR = 1,
  MHD_REQUEST_TERMINATED_TIMEOUT_REACHED = 2,
  MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN = 3,
  MHD_REQUEST_TERMINATED_READ_ERROR = 4,
  MHD_REQUEST_TERMINATED_CLIENT_ABORT = 5
};

enum MHD_ConnectionNotificationCode { MHD_CONNECTION_NOTIFY_STARTED = 0, MHD_CONNECTION_NOTIFY_CLOSED = 1 };

struct MHD_Daemon;
struct MHD_Connection;
struct MHD_Response;
struct MHD_PostProcessor;
struct MHD_UpgradeResponseHandle;

struct MHD_IoVec {
  const void *iov_base;
  size_t iov_len;
};

/* What MHD_get_connection_info can tell. GnuTLS and ciphers give NULL. */
enum MHD_ConnectionInfoType {
  MHD_CONNECTION_INFO_CIPHER_ALGO,
  MHD_CONNECTION_INFO_PROTOCOL,
  MHD_CONNECTION_INFO_CLIENT_ADDRESS,
  MHD_CONNECTION_INFO_GNUTLS_SESSION,
  MHD_CONNECTION_INFO_GNUTLS_CLIENT_CERT,
  MHD_CONNECTION_INFO_DAEMON,
  MHD_CONNECTION_INFO_CONNECTION_FD,
  MHD_CONNECTION_INFO_SOCKET_CONTEXT,
  MHD_CONNECTION_INFO_CONNECTION_SUSPENDED,
  MHD_CONNECTION_INFO_CONNECTION_TIMEOUT,
  MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE,
  MHD_CONNECTION_INFO_HTTP_STATUS
};

union MHD_ConnectionInfo {
  int cipher_algorithm;
  int protocol;
  int suspended;
  unsigned int connection_timeout;
  unsigned int http_status;
  MHD_socket connect_fd;
  size_t header_size;
  void *tls_session;
  void *client_cert;
  struct sockaddr *client_addr;
  struct MHD_Daemon *daemon;
  void *socket_context;
};

enum MHD_DaemonInfoType {
  MHD_DAEMON_INFO_KEY_SIZE,
  MHD_DAEMON_INFO_MAC_KEY_SIZE,
  MHD_DAEMON_INFO_LISTEN_FD,
  MHD_DAEMON_INFO_EPOLL_FD_LINUX_ONLY,
  MHD_DAEMON_INFO_EPOLL_FD = MHD_DAEMON_INFO_EPOLL_FD_LINUX_ONLY,
  MHD_DAEMON_INFO_CURRENT_CONNECTIONS,
  MHD_DAEMON_INFO_FLAGS,
  MHD_DAEMON_INFO_BIND_PORT
};

union MHD_DaemonInfo {
  size_t key_size;
  size_t mac_key_size;
  MHD_socket listen_fd;
  uint16_t port;
  int epoll_fd;
  unsigned int num_connections;
  enum MHD_FLAG flags;
};

enum MHD_CONNECTION_OPTION { MHD_CONNECTION_OPTION_TIMEOUT };

enum MHD_FEATURE {
  MHD_FEATURE_MESSAGES = 1,
  MHD_FEATURE_TLS = 2,
  MHD_FEATURE_SSL = 2,
  MHD_FEATURE_HTTPS_CERT_CALLBACK = 3,
  MHD_FEATURE_IPv6 = 4,
  MHD_FEATURE_IPv6_ONLY = 5,
  MHD_FEATURE_POLL = 6,
  MHD_FEATURE_EPOLL = 7,
  MHD_FEATURE_SHUTDOWN_LISTEN_SOCKET = 8,
  MHD_FEATURE_SOCKETPAIR = 9,
  MHD_FEATURE_TCP_FASTOPEN = 10,
  MHD_FEATURE_BASIC_AUTH = 11,
  MHD_FEATURE_DIGEST_AUTH = 12,
  MHD_FEATURE_POSTPROCESSOR = 13,
  MHD_FEATURE_HTTPS_KEY_PASSWORD = 14,
  MHD_FEATURE_LARGE_FILE = 15,
  MHD_FEATURE_THREAD_NAMES = 16,
  MHD_THREAD_NAMES = 16,
  MHD_FEATURE_UPGRADE = 17,
  MHD_FEATURE_RESPONSES_SHARED_FD = 18,
  MHD_FEATURE_AUTODETECT_BIND_PORT = 19,
  MHD_FEATURE_AUTOSUPPRESS_SIGPIPE = 20,
  MHD_FEATURE_SENDFILE = 21,
  MHD_FEATURE_THREADS = 22,
  MHD_FEATURE_HTTPS_CERT_CALLBACK2 = 23,
  MHD_FEATURE_HTTPS_COOKIE_PARSING = 24,
  MHD_FEATURE_DIGEST_AUTH_RFC2069 = 25,
  MHD_FEATURE_DIGEST_AUTH_MD5 = 26,
  MHD_FEATURE_DIGEST_AUTH_SHA256 = 27,
  MHD_FEATURE_DIGEST_AUTH_SHA512_256 = 28,
  MHD_FEATURE_DIGEST_AUTH_AUTH_INT = 29,
  MHD_FEATURE_DIGEST_AUTH_ALGO_SESSION = 30,
  MHD_FEATURE_DIGEST_AUTH_USERHASH = 31,
  MHD_FEATURE_EXTERN_HASH = 32,
  MHD_FEATURE_DEBUG_BUILD = 33,
  MHD_FEATURE_FLEXIBLE_FD_SETSIZE = 34
};

enum MHD_ResponseMemoryMode {
  /* The memory stays, and does not change, as long as the response. */
  MHD_RESPMEM_PERSISTENT,
  /* The library frees the memory by free(). */
  MHD_RESPMEM_MUST_FREE,
  /* The library copies the memory now. */
  MHD_RESPMEM_MUST_COPY
};

enum MHD_ResponseFlags {
  MHD_RF_NONE = 0,
  MHD_RF_HTTP_1_0_COMPATIBLE_STRICT = 1,
  MHD_RF_HTTP_VERSION_1_0_ONLY = 1,
  MHD_RF_HTTP_1_0_SERVER = 2,
  MHD_RF_HTTP_VERSION_1_0_RESPONSE = 2,
  MHD_RF_INSANITY_HEADER_CONTENT_LENGTH = 4,
  MHD_RF_SEND_KEEP_ALIVE_HEADER = 8,
  MHD_RF_HEAD_ONLY_RESPONSE = 16
};

enum MHD_ResponseOptions { MHD_RO_END = 0 };

/* What MHD_upgrade_action does. */
enum MHD_UpgradeAction {
  MHD_UPGRADE_ACTION_CLOSE = 0,
  MHD_UPGRADE_ACTION_CORK_ON = 1,
  MHD_UPGRADE_ACTION_CORK_OFF = 2
};

/* Events that an upgraded connection waits for: what an MHD_UpgradeEventHandler returns, one or several. */
enum MHD_UpgradeEventMask {
  /* The output is sent, then the connection closes. The handler is not called again. */
  MHD_UPGRADE_EVENT_TERMINATE = 0,
  /* There is input that the handler has not seen, or the peer has finished. READ alone when that was seen terminates. */
  MHD_UPGRADE_EVENT_READ = 1,
  /* The room for output has grown, to at least half of all. */
  MHD_UPGRADE_EVENT_WRITE = 2,
  /* MHD_upgrade_wake was called, which is remembered if it comes early. */
  MHD_UPGRADE_EVENT_EXTERNAL = 4,
  /* Not an event: everything written so far is sent now. Without it, up to a segment may be held back for 200 ms while
     the handler waits for WRITE. Alone it is TERMINATE. */
  MHD_UPGRADE_EVENT_CORK = 8
};

/* Why an MHD_UpgradeEventHandler is called: bits of what MHD_upgrade_events returns. The first call may have none. */
enum MHD_UpgradeReason {
  MHD_UPGRADE_REASON_READABLE = 1,
  MHD_UPGRADE_REASON_WRITABLE = 2,
  MHD_UPGRADE_REASON_WOKEN = 4,
  /* The peer has half-closed or closed: the input is the last of it. Set in all calls from then on. */
  MHD_UPGRADE_REASON_PEER_FINISHED = 8,
  MHD_UPGRADE_REASON_DEADLINE = 16,
  /* The daemon stops: the connection has a second to end. Set once, whatever the handler waits for. */
  MHD_UPGRADE_REASON_STOPPING = 32,
  /* The connection is reset or has failed: this is the last call. Whatever the handler waits for. */
  MHD_UPGRADE_REASON_ERROR = 64,
  /* With PEER_FINISHED: the stream is truncated, by a reset or, over TLS, by an end without close_notify. */
  MHD_UPGRADE_REASON_TRUNCATED = 128
};

/* Basic authentication: what a request has. Memory that a function returns, with all that it points to, is freed by one
   call of MHD_free. */
struct MHD_BasicAuthInfo {
  char *username;
  size_t username_len;
  /* NULL if the client has sent none. */
  char *password;
  size_t password_len;
};

/* Digest authentication. */
#define MHD_MD5_DIGEST_SIZE 16
#define MHD_SHA256_DIGEST_SIZE 32
#define MHD_SHA512_256_DIGEST_SIZE 32
/* What the older functions for checking return for a nonce that is not accepted: the client may try again. */
#define MHD_INVALID_NONCE -1
/* `nc` of a client that has sent none, or an invalid one. */
#define MHD_DIGEST_AUTH_INVALID_NC_VALUE (0)

/* What nonces are valid for, besides the time. */
enum MHD_DAuthBindNonce {
  MHD_DAUTH_BIND_NONCE_NONE = 0,
  MHD_DAUTH_BIND_NONCE_REALM = 1 << 0,
  /* One method, and one target without its query. */
  MHD_DAUTH_BIND_NONCE_URI = 1 << 1,
  /* One method, and one target with its query. */
  MHD_DAUTH_BIND_NONCE_URI_PARAMS = 1 << 2,
  MHD_DAUTH_BIND_NONCE_CLIENT_IP = 1 << 3
};

/* The algorithm of the older functions; "automatic" is MD5. */
enum MHD_DigestAuthAlgorithm { MHD_DIGEST_ALG_AUTO = 0, MHD_DIGEST_ALG_MD5, MHD_DIGEST_ALG_SHA256 };

enum MHD_DigestBaseAlgo {
  MHD_DIGEST_BASE_ALGO_INVALID = 0,
  MHD_DIGEST_BASE_ALGO_MD5 = 1 << 0,
  MHD_DIGEST_BASE_ALGO_SHA256 = 1 << 1,
  MHD_DIGEST_BASE_ALGO_SHA512_256 = 1 << 2
};

#define MHD_DIGEST_AUTH_ALGO3_NON_SESSION (1 << 6)
/* With "-sess". It is recognized in requests, and not supported. */
#define MHD_DIGEST_AUTH_ALGO3_SESSION (1 << 7)

enum MHD_DigestAuthAlgo3 {
  MHD_DIGEST_AUTH_ALGO3_INVALID = 0,
  MHD_DIGEST_AUTH_ALGO3_MD5 = MHD_DIGEST_BASE_ALGO_MD5 | MHD_DIGEST_AUTH_ALGO3_NON_SESSION,
  MHD_DIGEST_AUTH_ALGO3_MD5_SESSION = MHD_DIGEST_BASE_ALGO_MD5 | MHD_DIGEST_AUTH_ALGO3_SESSION,
  MHD_DIGEST_AUTH_ALGO3_SHA256 = MHD_DIGEST_BASE_ALGO_SHA256 | MHD_DIGEST_AUTH_ALGO3_NON_SESSION,
  MHD_DIGEST_AUTH_ALGO3_SHA256_SESSION = MHD_DIGEST_BASE_ALGO_SHA256 | MHD_DIGEST_AUTH_ALGO3_SESSION,
  MHD_DIGEST_AUTH_ALGO3_SHA512_256 = MHD_DIGEST_BASE_ALGO_SHA512_256 | MHD_DIGEST_AUTH_ALGO3_NON_SESSION,
  MHD_DIGEST_AUTH_ALGO3_SHA512_256_SESSION = MHD_DIGEST_BASE_ALGO_SHA512_256 | MHD_DIGEST_AUTH_ALGO3_SESSION
};

/* Several algorithms. */
enum MHD_DigestAuthMultiAlgo3 {
  MHD_DIGEST_AUTH_MULT_ALGO3_INVALID = MHD_DIGEST_AUTH_ALGO3_INVALID,
  MHD_DIGEST_AUTH_MULT_ALGO3_MD5 = MHD_DIGEST_AUTH_ALGO3_MD5,
  MHD_DIGEST_AUTH_MULT_ALGO3_MD5_SESSION = MHD_DIGEST_AUTH_ALGO3_MD5_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA256 = MHD_DIGEST_AUTH_ALGO3_SHA256,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA256_SESSION = MHD_DIGEST_AUTH_ALGO3_SHA256_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA512_256 = MHD_DIGEST_AUTH_ALGO3_SHA512_256,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA512_256_SESSION = MHD_DIGEST_AUTH_ALGO3_SHA512_256_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA_ANY_NON_SESSION =
    MHD_DIGEST_AUTH_ALGO3_SHA256 | MHD_DIGEST_AUTH_ALGO3_SHA512_256,
  MHD_DIGEST_AUTH_MULT_ALGO3_ANY_NON_SESSION = 0x3F | MHD_DIGEST_AUTH_ALGO3_NON_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA_ANY_SESSION =
    MHD_DIGEST_AUTH_ALGO3_SHA256_SESSION | MHD_DIGEST_AUTH_ALGO3_SHA512_256_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_ANY_SESSION = 0x3F | MHD_DIGEST_AUTH_ALGO3_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_MD5_ANY = MHD_DIGEST_AUTH_MULT_ALGO3_MD5 | MHD_DIGEST_AUTH_MULT_ALGO3_MD5_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA256_ANY =
    MHD_DIGEST_AUTH_MULT_ALGO3_SHA256 | MHD_DIGEST_AUTH_MULT_ALGO3_SHA256_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA512_256_ANY =
    MHD_DIGEST_AUTH_MULT_ALGO3_SHA512_256 | MHD_DIGEST_AUTH_MULT_ALGO3_SHA512_256_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_SHA_ANY_ANY =
    MHD_DIGEST_AUTH_MULT_ALGO3_SHA_ANY_NON_SESSION | MHD_DIGEST_AUTH_MULT_ALGO3_SHA_ANY_SESSION,
  MHD_DIGEST_AUTH_MULT_ALGO3_ANY = 0x3F | MHD_DIGEST_AUTH_ALGO3_NON_SESSION | MHD_DIGEST_AUTH_ALGO3_SESSION
};

/* How a client names its user. A name in clear is STANDARD or more, any name is USERHASH or more. */
enum MHD_DigestAuthUsernameType {
  MHD_DIGEST_AUTH_UNAME_TYPE_MISSING = 0,
  MHD_DIGEST_AUTH_UNAME_TYPE_STANDARD = 1 << 2,
  /* In the notation of RFC 8187; it is decoded. */
  MHD_DIGEST_AUTH_UNAME_TYPE_EXTENDED = 1 << 3,
  MHD_DIGEST_AUTH_UNAME_TYPE_USERHASH = 1 << 1,
  MHD_DIGEST_AUTH_UNAME_TYPE_INVALID = 1 << 0
};

/* The quality of protection. */
enum MHD_DigestAuthQOP {
  MHD_DIGEST_AUTH_QOP_INVALID = 0,
  /* None, as in RFC 2069: each nonce is good for one request. */
  MHD_DIGEST_AUTH_QOP_NONE = 1 << 0,
  MHD_DIGEST_AUTH_QOP_AUTH = 1 << 1,
  /* It is recognized in requests, and not supported. */
  MHD_DIGEST_AUTH_QOP_AUTH_INT = 1 << 2
};

/* Several of them. */
enum MHD_DigestAuthMultiQOP {
  MHD_DIGEST_AUTH_MULT_QOP_INVALID = MHD_DIGEST_AUTH_QOP_INVALID,
  MHD_DIGEST_AUTH_MULT_QOP_NONE = MHD_DIGEST_AUTH_QOP_NONE,
  MHD_DIGEST_AUTH_MULT_QOP_AUTH = MHD_DIGEST_AUTH_QOP_AUTH,
  MHD_DIGEST_AUTH_MULT_QOP_AUTH_INT = MHD_DIGEST_AUTH_QOP_AUTH_INT,
  MHD_DIGEST_AUTH_MULT_QOP_ANY_NON_INT = MHD_DIGEST_AUTH_QOP_NONE | MHD_DIGEST_AUTH_QOP_AUTH,
  MHD_DIGEST_AUTH_MULT_QOP_AUTH_ANY = MHD_DIGEST_AUTH_QOP_AUTH | MHD_DIGEST_AUTH_QOP_AUTH_INT
};

/* What a request says, before anything is verified. What it does not say is NULL, with a length of 0. */
struct MHD_DigestAuthInfo {
  enum MHD_DigestAuthAlgo3 algo3;
  enum MHD_DigestAuthUsernameType uname_type;
  char *username;
  size_t username_len;
  /* The hash of the user, as hexadecimal digits, and as half as many bytes. */
  char *userhash_hex;
  size_t userhash_hex_len;
  uint8_t *userhash_bin;
  char *opaque;
  size_t opaque_len;
  char *realm;
  size_t realm_len;
  enum MHD_DigestAuthQOP qop;
  size_t cnonce_len;
  uint32_t nc;
};

struct MHD_DigestAuthUsernameInfo {
  enum MHD_DigestAuthAlgo3 algo3;
  enum MHD_DigestAuthUsernameType uname_type;
  char *username;
  size_t username_len;
  char *userhash_hex;
  size_t userhash_hex_len;
  uint8_t *userhash_bin;
};

/* All but one are 0 or less. */
enum MHD_DigestAuthResult {
  MHD_DAUTH_OK = 1,
  MHD_DAUTH_ERROR = 0,
  /* There are no credentials, or malformed ones. */
  MHD_DAUTH_WRONG_HEADER = -1,
  MHD_DAUTH_WRONG_USERNAME = -2,
  MHD_DAUTH_WRONG_REALM = -3,
  MHD_DAUTH_WRONG_URI = -4,
  MHD_DAUTH_WRONG_QOP = -5,
  MHD_DAUTH_WRONG_ALGO = -6,
  MHD_DAUTH_TOO_LARGE = -15,
  /* The nonce has expired, or this use of it was seen: the client may try again with a new one. */
  MHD_DAUTH_NONCE_STALE = -17,
  /* The nonce is for another realm, target or address: see MHD_OPTION_DIGEST_AUTH_NONCE_BIND_TYPE. */
  MHD_DAUTH_NONCE_OTHER_COND = -18,
  /* The nonce was not made by this daemon. */
  MHD_DAUTH_NONCE_WRONG = -33,
  /* Most likely the password is wrong. */
  MHD_DAUTH_RESPONSE_WRONG = -34
};

/* Callbacks. */
typedef void (*MHD_LogCallback) (void *cls, const char *fm, va_list ap);
typedef void (*MHD_PanicCallback) (void *cls, const char *file, unsigned int line, const char *reason);
typedef enum MHD_Result (*MHD_AcceptPolicyCallback) (void *cls, const struct sockaddr *addr, socklen_t addrlen);
/* Called for the head of a request, for each piece of its body (*upload_data_size is set to what is left of the piece),
   and at its end, until a response is queued. MHD_NO closes the connection. */
typedef enum MHD_Result (*MHD_AccessHandlerCallback) (void *cls, struct MHD_Connection *connection, const char *url,
                                                      const char *method, const char *version, const char *upload_data,
                                                      size_t *upload_data_size, void **req_cls);
typedef void (*MHD_RequestCompletedCallback) (void *cls, struct MHD_Connection *connection, void **req_cls,
                                              enum MHD_RequestTerminationCode toe);
typedef void (*MHD_NotifyConnectionCallback) (void *cls, struct MHD_Connection *connection, void **socket_context,
                                              enum MHD_ConnectionNotificationCode toe);
typedef enum MHD_Result (*MHD_KeyValueIterator) (void *cls, enum MHD_ValueKind kind, const char *key,
                                                 const char *value);
typedef enum MHD_Result (*MHD_KeyValueIteratorN) (void *cls, enum MHD_ValueKind kind, const char *key, size_t key_size,
                                                  const char *value, size_t value_size);
/* Writes at most `max` bytes of the body from `pos` on, and returns how many; 0 if there are none now. */
typedef ssize_t (*MHD_ContentReaderCallback) (void *cls, uint64_t pos, char *buf, size_t max);
typedef void (*MHD_ContentReaderFreeCallback) (void *cls);
typedef enum MHD_Result (*MHD_PostDataIterator) (void *cls, enum MHD_ValueKind kind, const char *key,
                                                 const char *filename, const char *content_type,
                                                 const char *transfer_encoding, const char *data, uint64_t off,
                                                 size_t size);
/* Speaks another protocol, by events: called with input and room for output, at the start and then for each event that
   it has returned last. *data_in_size is how many bytes there are; the handler sets it to how many it has consumed, and
   gets the rest again. *data_out_size is how many there is room for; the handler sets it to how many it has written.
   Neither changes by itself: a handler that consumes or writes nothing must set it to 0. It must not block. */
typedef enum MHD_UpgradeEventMask (*MHD_UpgradeEventHandler) (void *cls, struct MHD_Connection *connection,
                                                              void **con_cls, size_t *data_in_size,
                                                              const char *data_in, size_t *data_out_size,
                                                              char *data_out);
#ifdef MHD_UPGRADE_2012
/* The names of the proposal of 2012, for the form by events. */
typedef MHD_UpgradeEventHandler MHD_UpgradeHandler;
# define MHD_create_response_for_upgrade MHD_create_response_for_upgrade_events
#else
/* Speaks another protocol, by a socket: called once. `sock` does not block, and it is not the client's own: it is one
   end of a pair, over HTTP and HTTPS alike. extra_in_size is 0 here: all input comes through the socket. The program
   may call shutdown, and must close by MHD_upgrade_action (urh, MHD_UPGRADE_ACTION_CLOSE), from any thread. The handler
   may block if each connection has a thread. */
typedef void (*MHD_UpgradeHandler) (void *cls, struct MHD_Connection *connection, void *req_cls, const char *extra_in,
                                    size_t extra_in_size, MHD_socket sock, struct MHD_UpgradeResponseHandle *urh);
#endif

/* Status codes. */
#define MHD_HTTP_CONTINUE 100
#define MHD_HTTP_SWITCHING_PROTOCOLS 101
#define MHD_HTTP_PROCESSING 102
#define MHD_HTTP_EARLY_HINTS 103
#define MHD_HTTP_OK 200
#define MHD_HTTP_CREATED 201
#define MHD_HTTP_ACCEPTED 202
#define MHD_HTTP_NON_AUTHORITATIVE_INFORMATION 203
#define MHD_HTTP_NO_CONTENT 204
#define MHD_HTTP_RESET_CONTENT 205
#define MHD_HTTP_PARTIAL_CONTENT 206
#define MHD_HTTP_MULTI_STATUS 207
#define MHD_HTTP_ALREADY_REPORTED 208
#define MHD_HTTP_IM_USED 226
#define MHD_HTTP_MULTIPLE_CHOICES 300
#define MHD_HTTP_MOVED_PERMANENTLY 301
#define MHD_HTTP_FOUND 302
#define MHD_HTTP_SEE_OTHER 303
#define MHD_HTTP_NOT_MODIFIED 304
#define MHD_HTTP_USE_PROXY 305
#define MHD_HTTP_SWITCH_PROXY 306
#define MHD_HTTP_TEMPORARY_REDIRECT 307
#define MHD_HTTP_PERMANENT_REDIRECT 308
#define MHD_HTTP_BAD_REQUEST 400
#define MHD_HTTP_UNAUTHORIZED 401
#define MHD_HTTP_PAYMENT_REQUIRED 402
#define MHD_HTTP_FORBIDDEN 403
#define MHD_HTTP_NOT_FOUND 404
#define MHD_HTTP_METHOD_NOT_ALLOWED 405
#define MHD_HTTP_NOT_ACCEPTABLE 406
#define MHD_HTTP_PROXY_AUTHENTICATION_REQUIRED 407
#define MHD_HTTP_REQUEST_TIMEOUT 408
#define MHD_HTTP_CONFLICT 409
#define MHD_HTTP_GONE 410
#define MHD_HTTP_LENGTH_REQUIRED 411
#define MHD_HTTP_PRECONDITION_FAILED 412
#define MHD_HTTP_CONTENT_TOO_LARGE 413
#define MHD_HTTP_URI_TOO_LONG 414
#define MHD_HTTP_UNSUPPORTED_MEDIA_TYPE 415
#define MHD_HTTP_RANGE_NOT_SATISFIABLE 416
#define MHD_HTTP_EXPECTATION_FAILED 417
#define MHD_HTTP_MISDIRECTED_REQUEST 421
#define MHD_HTTP_UNPROCESSABLE_CONTENT 422
#define MHD_HTTP_LOCKED 423
#define MHD_HTTP_FAILED_DEPENDENCY 424
#define MHD_HTTP_TOO_EARLY 425
#define MHD_HTTP_UPGRADE_REQUIRED 426
#define MHD_HTTP_PRECONDITION_REQUIRED 428
#define MHD_HTTP_TOO_MANY_REQUESTS 429
#define MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE 431
#define MHD_HTTP_UNAVAILABLE_FOR_LEGAL_REASONS 451
#define MHD_HTTP_INTERNAL_SERVER_ERROR 500
#define MHD_HTTP_NOT_IMPLEMENTED 501
#define MHD_HTTP_BAD_GATEWAY 502
#define MHD_HTTP_SERVICE_UNAVAILABLE 503
#define MHD_HTTP_GATEWAY_TIMEOUT 504
#define MHD_HTTP_HTTP_VERSION_NOT_SUPPORTED 505
#define MHD_HTTP_VARIANT_ALSO_NEGOTIATES 506
#define MHD_HTTP_INSUFFICIENT_STORAGE 507
#define MHD_HTTP_LOOP_DETECTED 508
#define MHD_HTTP_NOT_EXTENDED 510
#define MHD_HTTP_NETWORK_AUTHENTICATION_REQUIRED 511
#define MHD_HTTP_RETRY_WITH 449
#define MHD_HTTP_BLOCKED_BY_WINDOWS_PARENTAL_CONTROLS 450
#define MHD_HTTP_BANDWIDTH_LIMIT_EXCEEDED 509
#define MHD_HTTP_METHOD_NOT_ACCEPTABLE 406
#define MHD_HTTP_REQUEST_ENTITY_TOO_LARGE 413
#define MHD_HTTP_PAYLOAD_TOO_LARGE 413
#define MHD_HTTP_REQUEST_URI_TOO_LONG 414
#define MHD_HTTP_REQUESTED_RANGE_NOT_SATISFIABLE 416
#define MHD_HTTP_UNPROCESSABLE_ENTITY 422
#define MHD_HTTP_UNORDERED_COLLECTION 425
#define MHD_HTTP_NO_RESPONSE 444

/* The highest bit of a status once asked for another protocol. It is ignored. */
#define MHD_ICY_FLAG ((uint32_t) 1 << 31)

/* Methods, versions and media types. */
#define MHD_HTTP_METHOD_CONNECT "CONNECT"
#define MHD_HTTP_METHOD_DELETE "DELETE"
#define MHD_HTTP_METHOD_GET "GET"
#define MHD_HTTP_METHOD_HEAD "HEAD"
#define MHD_HTTP_METHOD_OPTIONS "OPTIONS"
#define MHD_HTTP_METHOD_POST "POST"
#define MHD_HTTP_METHOD_PUT "PUT"
#define MHD_HTTP_METHOD_TRACE "TRACE"
#define MHD_HTTP_METHOD_ASTERISK "*"
#define MHD_HTTP_METHOD_ACL "ACL"
#define MHD_HTTP_METHOD_BASELINE_CONTROL "BASELINE-CONTROL"
#define MHD_HTTP_METHOD_BIND "BIND"
#define MHD_HTTP_METHOD_CHECKIN "CHECKIN"
#define MHD_HTTP_METHOD_CHECKOUT "CHECKOUT"
#define MHD_HTTP_METHOD_COPY "COPY"
#define MHD_HTTP_METHOD_LABEL "LABEL"
#define MHD_HTTP_METHOD_LINK "LINK"
#define MHD_HTTP_METHOD_LOCK "LOCK"
#define MHD_HTTP_METHOD_MERGE "MERGE"
#define MHD_HTTP_METHOD_MKACTIVITY "MKACTIVITY"
#define MHD_HTTP_METHOD_MKCALENDAR "MKCALENDAR"
#define MHD_HTTP_METHOD_MKCOL "MKCOL"
#define MHD_HTTP_METHOD_MKREDIRECTREF "MKREDIRECTREF"
#define MHD_HTTP_METHOD_MKWORKSPACE "MKWORKSPACE"
#define MHD_HTTP_METHOD_MOVE "MOVE"
#define MHD_HTTP_METHOD_ORDERPATCH "ORDERPATCH"
#define MHD_HTTP_METHOD_PATCH "PATCH"
#define MHD_HTTP_METHOD_PRI "PRI"
#define MHD_HTTP_METHOD_PROPFIND "PROPFIND"
#define MHD_HTTP_METHOD_PROPPATCH "PROPPATCH"
#define MHD_HTTP_METHOD_REBIND "REBIND"
#define MHD_HTTP_METHOD_REPORT "REPORT"
#define MHD_HTTP_METHOD_SEARCH "SEARCH"
#define MHD_HTTP_METHOD_UNBIND "UNBIND"
#define MHD_HTTP_METHOD_UNCHECKOUT "UNCHECKOUT"
#define MHD_HTTP_METHOD_UNLINK "UNLINK"
#define MHD_HTTP_METHOD_UNLOCK "UNLOCK"
#define MHD_HTTP_METHOD_UPDATE "UPDATE"
#define MHD_HTTP_METHOD_UPDATEREDIRECTREF "UPDATEREDIRECTREF"
#define MHD_HTTP_METHOD_VERSION_CONTROL "VERSION-CONTROL"
#define MHD_HTTP_VERSION_1_0 "HTTP/1.0"
#define MHD_HTTP_VERSION_1_1 "HTTP/1.1"
#define MHD_HTTP_POST_ENCODING_FORM_URLENCODED "application/x-www-form-urlencoded"
#define MHD_HTTP_POST_ENCODING_MULTIPART_FORMDATA "multipart/form-data"

/* Names of header fields. */
#define MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE 431
#define MHD_HTTP_HEADER_ACCEPT "Accept"
#define MHD_HTTP_HEADER_ACCEPT_CHARSET "Accept-Charset"
#define MHD_HTTP_HEADER_ACCEPT_ENCODING "Accept-Encoding"
#define MHD_HTTP_HEADER_ACCEPT_LANGUAGE "Accept-Language"
#define MHD_HTTP_HEADER_ACCEPT_RANGES "Accept-Ranges"
#define MHD_HTTP_HEADER_AGE "Age"
#define MHD_HTTP_HEADER_ALLOW "Allow"
#define MHD_HTTP_HEADER_AUTHENTICATION_INFO "Authentication-Info"
#define MHD_HTTP_HEADER_AUTHORIZATION "Authorization"
#define MHD_HTTP_HEADER_CACHE_CONTROL "Cache-Control"
#define MHD_HTTP_HEADER_CACHE_STATUS "Cache-Status"
#define MHD_HTTP_HEADER_CLOSE "Close"
#define MHD_HTTP_HEADER_CONNECTION "Connection"
#define MHD_HTTP_HEADER_CONTENT_ENCODING "Content-Encoding"
#define MHD_HTTP_HEADER_CONTENT_LANGUAGE "Content-Language"
#define MHD_HTTP_HEADER_CONTENT_LENGTH "Content-Length"
#define MHD_HTTP_HEADER_CONTENT_LOCATION "Content-Location"
#define MHD_HTTP_HEADER_CONTENT_RANGE "Content-Range"
#define MHD_HTTP_HEADER_CONTENT_TYPE "Content-Type"
#define MHD_HTTP_HEADER_DATE "Date"
#define MHD_HTTP_HEADER_ETAG "ETag"
#define MHD_HTTP_HEADER_EXPECT "Expect"
#define MHD_HTTP_HEADER_EXPECT_CT "Expect-CT"
#define MHD_HTTP_HEADER_EXPIRES "Expires"
#define MHD_HTTP_HEADER_FROM "From"
#define MHD_HTTP_HEADER_HOST "Host"
#define MHD_HTTP_HEADER_IF_MATCH "If-Match"
#define MHD_HTTP_HEADER_IF_MODIFIED_SINCE "If-Modified-Since"
#define MHD_HTTP_HEADER_IF_NONE_MATCH "If-None-Match"
#define MHD_HTTP_HEADER_IF_RANGE "If-Range"
#define MHD_HTTP_HEADER_IF_UNMODIFIED_SINCE "If-Unmodified-Since"
#define MHD_HTTP_HEADER_LAST_MODIFIED "Last-Modified"
#define MHD_HTTP_HEADER_LOCATION "Location"
#define MHD_HTTP_HEADER_MAX_FORWARDS "Max-Forwards"
#define MHD_HTTP_HEADER_MIME_VERSION "MIME-Version"
#define MHD_HTTP_HEADER_PRAGMA "Pragma"
#define MHD_HTTP_HEADER_PROXY_AUTHENTICATE "Proxy-Authenticate"
#define MHD_HTTP_HEADER_PROXY_AUTHENTICATION_INFO "Proxy-Authentication-Info"
#define MHD_HTTP_HEADER_PROXY_AUTHORIZATION "Proxy-Authorization"
#define MHD_HTTP_HEADER_PROXY_STATUS "Proxy-Status"
#define MHD_HTTP_HEADER_RANGE "Range"
#define MHD_HTTP_HEADER_REFERER "Referer"
#define MHD_HTTP_HEADER_RETRY_AFTER "Retry-After"
#define MHD_HTTP_HEADER_SERVER "Server"
#define MHD_HTTP_HEADER_TE "TE"
#define MHD_HTTP_HEADER_TRAILER "Trailer"
#define MHD_HTTP_HEADER_TRANSFER_ENCODING "Transfer-Encoding"
#define MHD_HTTP_HEADER_UPGRADE "Upgrade"
#define MHD_HTTP_HEADER_USER_AGENT "User-Agent"
#define MHD_HTTP_HEADER_VARY "Vary"
#define MHD_HTTP_HEADER_VIA "Via"
#define MHD_HTTP_HEADER_WARNING "Warning"
#define MHD_HTTP_HEADER_WWW_AUTHENTICATE "WWW-Authenticate"
#define MHD_HTTP_HEADER_ASTERISK "*"
#define MHD_HTTP_HEADER_A_IM "A-IM"
#define MHD_HTTP_HEADER_ACCEPT_ADDITIONS "Accept-Additions"
#define MHD_HTTP_HEADER_ACCEPT_CH "Accept-CH"
#define MHD_HTTP_HEADER_ACCEPT_DATETIME "Accept-Datetime"
#define MHD_HTTP_HEADER_ACCEPT_FEATURES "Accept-Features"
#define MHD_HTTP_HEADER_ALPN "ALPN"
#define MHD_HTTP_HEADER_ALT_SVC "Alt-Svc"
#define MHD_HTTP_HEADER_ALT_USED "Alt-Used"
#define MHD_HTTP_HEADER_ALTERNATES "Alternates"
#define MHD_HTTP_HEADER_APPLY_TO_REDIRECT_REF "Apply-To-Redirect-Ref"
#define MHD_HTTP_HEADER_AUTHENTICATION_CONTROL "Authentication-Control"
#define MHD_HTTP_HEADER_C_EXT "C-Ext"
#define MHD_HTTP_HEADER_C_MAN "C-Man"
#define MHD_HTTP_HEADER_C_OPT "C-Opt"
#define MHD_HTTP_HEADER_C_PEP "C-PEP"
#define MHD_HTTP_HEADER_CAL_MANAGED_ID "Cal-Managed-ID"
#define MHD_HTTP_HEADER_CALDAV_TIMEZONES "CalDAV-Timezones"
#define MHD_HTTP_HEADER_CDN_LOOP "CDN-Loop"
#define MHD_HTTP_HEADER_CERT_NOT_AFTER "Cert-Not-After"
#define MHD_HTTP_HEADER_CERT_NOT_BEFORE "Cert-Not-Before"
#define MHD_HTTP_HEADER_CONTENT_DISPOSITION "Content-Disposition"
#define MHD_HTTP_HEADER_CONTENT_ID "Content-ID"
#define MHD_HTTP_HEADER_CONTENT_SCRIPT_TYPE "Content-Script-Type"
#define MHD_HTTP_HEADER_CONTENT_STYLE_TYPE "Content-Style-Type"
#define MHD_HTTP_HEADER_CONTENT_VERSION "Content-Version"
#define MHD_HTTP_HEADER_COOKIE "Cookie"
#define MHD_HTTP_HEADER_DASL "DASL"
#define MHD_HTTP_HEADER_DAV "DAV"
#define MHD_HTTP_HEADER_DEFAULT_STYLE "Default-Style"
#define MHD_HTTP_HEADER_DELTA_BASE "Delta-Base"
#define MHD_HTTP_HEADER_DEPTH "Depth"
#define MHD_HTTP_HEADER_DERIVED_FROM "Derived-From"
#define MHD_HTTP_HEADER_DESTINATION "Destination"
#define MHD_HTTP_HEADER_DIFFERENTIAL_ID "Differential-ID"
#define MHD_HTTP_HEADER_DIGEST "Digest"
#define MHD_HTTP_HEADER_EARLY_DATA "Early-Data"
#define MHD_HTTP_HEADER_EXT "Ext"
#define MHD_HTTP_HEADER_FORWARDED "Forwarded"
#define MHD_HTTP_HEADER_GETPROFILE "GetProfile"
#define MHD_HTTP_HEADER_HOBAREG "Hobareg"
#define MHD_HTTP_HEADER_HTTP2_SETTINGS "HTTP2-Settings"
#define MHD_HTTP_HEADER_IF "If"
#define MHD_HTTP_HEADER_IF_SCHEDULE_TAG_MATCH "If-Schedule-Tag-Match"
#define MHD_HTTP_HEADER_IM "IM"
#define MHD_HTTP_HEADER_INCLUDE_REFERRED_TOKEN_BINDING_ID "Include-Referred-Token-Binding-ID"
#define MHD_HTTP_HEADER_KEEP_ALIVE "Keep-Alive"
#define MHD_HTTP_HEADER_LABEL "Label"
#define MHD_HTTP_HEADER_LINK "Link"
#define MHD_HTTP_HEADER_LOCK_TOKEN "Lock-Token"
#define MHD_HTTP_HEADER_MAN "Man"
#define MHD_HTTP_HEADER_MEMENTO_DATETIME "Memento-Datetime"
#define MHD_HTTP_HEADER_METER "Meter"
#define MHD_HTTP_HEADER_NEGOTIATE "Negotiate"
#define MHD_HTTP_HEADER_ODATA_ENTITYID "OData-EntityId"
#define MHD_HTTP_HEADER_ODATA_ISOLATION "OData-Isolation"
#define MHD_HTTP_HEADER_ODATA_MAXVERSION "OData-MaxVersion"
#define MHD_HTTP_HEADER_ODATA_VERSION "OData-Version"
#define MHD_HTTP_HEADER_OPT "Opt"
#define MHD_HTTP_HEADER_OPTIONAL_WWW_AUTHENTICATE "Optional-WWW-Authenticate"
#define MHD_HTTP_HEADER_ORDERING_TYPE "Ordering-Type"
#define MHD_HTTP_HEADER_ORIGIN "Origin"
#define MHD_HTTP_HEADER_OSCORE "OSCORE"
#define MHD_HTTP_HEADER_OSLC_CORE_VERSION "OSLC-Core-Version"
#define MHD_HTTP_HEADER_OVERWRITE "Overwrite"
#define MHD_HTTP_HEADER_P3P "P3P"
#define MHD_HTTP_HEADER_PEP "PEP"
#define MHD_HTTP_HEADER_PEP_INFO "Pep-Info"
#define MHD_HTTP_HEADER_PICS_LABEL "PICS-Label"
#define MHD_HTTP_HEADER_POSITION "Position"
#define MHD_HTTP_HEADER_PREFER "Prefer"
#define MHD_HTTP_HEADER_PREFERENCE_APPLIED "Preference-Applied"
#define MHD_HTTP_HEADER_PROFILEOBJECT "ProfileObject"
#define MHD_HTTP_HEADER_PROTOCOL "Protocol"
#define MHD_HTTP_HEADER_PROTOCOL_REQUEST "Protocol-Request"
#define MHD_HTTP_HEADER_PROXY_FEATURES "Proxy-Features"
#define MHD_HTTP_HEADER_PROXY_INSTRUCTION "Proxy-Instruction"
#define MHD_HTTP_HEADER_PUBLIC "Public"
#define MHD_HTTP_HEADER_PUBLIC_KEY_PINS "Public-Key-Pins"
#define MHD_HTTP_HEADER_PUBLIC_KEY_PINS_REPORT_ONLY "Public-Key-Pins-Report-Only"
#define MHD_HTTP_HEADER_REDIRECT_REF "Redirect-Ref"
#define MHD_HTTP_HEADER_REPLAY_NONCE "Replay-Nonce"
#define MHD_HTTP_HEADER_SAFE "Safe"
#define MHD_HTTP_HEADER_SCHEDULE_REPLY "Schedule-Reply"
#define MHD_HTTP_HEADER_SCHEDULE_TAG "Schedule-Tag"
#define MHD_HTTP_HEADER_SEC_TOKEN_BINDING "Sec-Token-Binding"
#define MHD_HTTP_HEADER_SEC_WEBSOCKET_ACCEPT "Sec-WebSocket-Accept"
#define MHD_HTTP_HEADER_SEC_WEBSOCKET_EXTENSIONS "Sec-WebSocket-Extensions"
#define MHD_HTTP_HEADER_SEC_WEBSOCKET_KEY "Sec-WebSocket-Key"
#define MHD_HTTP_HEADER_SEC_WEBSOCKET_PROTOCOL "Sec-WebSocket-Protocol"
#define MHD_HTTP_HEADER_SEC_WEBSOCKET_VERSION "Sec-WebSocket-Version"
#define MHD_HTTP_HEADER_SECURITY_SCHEME "Security-Scheme"
#define MHD_HTTP_HEADER_SET_COOKIE "Set-Cookie"
#define MHD_HTTP_HEADER_SETPROFILE "SetProfile"
#define MHD_HTTP_HEADER_SLUG "SLUG"
#define MHD_HTTP_HEADER_SOAPACTION "SoapAction"
#define MHD_HTTP_HEADER_STATUS_URI "Status-URI"
#define MHD_HTTP_HEADER_STRICT_TRANSPORT_SECURITY "Strict-Transport-Security"
#define MHD_HTTP_HEADER_SUNSET "Sunset"
#define MHD_HTTP_HEADER_SURROGATE_CAPABILITY "Surrogate-Capability"
#define MHD_HTTP_HEADER_SURROGATE_CONTROL "Surrogate-Control"
#define MHD_HTTP_HEADER_TCN "TCN"
#define MHD_HTTP_HEADER_TIMEOUT "Timeout"
#define MHD_HTTP_HEADER_TOPIC "Topic"
#define MHD_HTTP_HEADER_TTL "TTL"
#define MHD_HTTP_HEADER_URGENCY "Urgency"
#define MHD_HTTP_HEADER_URI "URI"
#define MHD_HTTP_HEADER_VARIANT_VARY "Variant-Vary"
#define MHD_HTTP_HEADER_WANT_DIGEST "Want-Digest"
#define MHD_HTTP_HEADER_ACCEPT_PATCH "Accept-Patch"
#define MHD_HTTP_HEADER_COMPLIANCE "Compliance"
#define MHD_HTTP_HEADER_CONTENT_TRANSFER_ENCODING "Content-Transfer-Encoding"
#define MHD_HTTP_HEADER_COST "Cost"
#define MHD_HTTP_HEADER_EDIINT_FEATURES "EDIINT-Features"
#define MHD_HTTP_HEADER_ISOLATION "Isolation"
#define MHD_HTTP_HEADER_MESSAGE_ID "Message-ID"
#define MHD_HTTP_HEADER_NON_COMPLIANCE "Non-Compliance"
#define MHD_HTTP_HEADER_OPTIONAL "Optional"
#define MHD_HTTP_HEADER_REPEATABILITY_CLIENT_ID "Repeatability-Client-ID"
#define MHD_HTTP_HEADER_REPEATABILITY_FIRST_SENT "Repeatability-First-Sent"
#define MHD_HTTP_HEADER_REPEATABILITY_REQUEST_ID "Repeatability-Request-ID"
#define MHD_HTTP_HEADER_REPEATABILITY_RESULT "Repeatability-Result"
#define MHD_HTTP_HEADER_RESOLUTION_HINT "Resolution-Hint"
#define MHD_HTTP_HEADER_RESOLVER_LOCATION "Resolver-Location"
#define MHD_HTTP_HEADER_SUBOK "SubOK"
#define MHD_HTTP_HEADER_SUBST "Subst"
#define MHD_HTTP_HEADER_TITLE "Title"
#define MHD_HTTP_HEADER_UA_COLOR "UA-Color"
#define MHD_HTTP_HEADER_UA_MEDIA "UA-Media"
#define MHD_HTTP_HEADER_UA_PIXELS "UA-Pixels"
#define MHD_HTTP_HEADER_UA_RESOLUTION "UA-Resolution"
#define MHD_HTTP_HEADER_UA_WINDOWPIXELS "UA-Windowpixels"
#define MHD_HTTP_HEADER_VERSION "Version"
#define MHD_HTTP_HEADER_X_DEVICE_ACCEPT "X-Device-Accept"
#define MHD_HTTP_HEADER_X_DEVICE_ACCEPT_CHARSET "X-Device-Accept-Charset"
#define MHD_HTTP_HEADER_X_DEVICE_ACCEPT_ENCODING "X-Device-Accept-Encoding"
#define MHD_HTTP_HEADER_X_DEVICE_ACCEPT_LANGUAGE "X-Device-Accept-Language"
#define MHD_HTTP_HEADER_X_DEVICE_USER_AGENT "X-Device-User-Agent"
#define MHD_HTTP_HEADER_C_PEP_INFO "C-PEP-Info"
#define MHD_HTTP_HEADER_PROTOCOL_INFO "Protocol-Info"
#define MHD_HTTP_HEADER_PROTOCOL_QUERY "Protocol-Query"
#define MHD_HTTP_HEADER_CONTENT_BASE "Content-Base"
#define MHD_HTTP_HEADER_CONTENT_MD5 "Content-MD5"
#define MHD_HTTP_HEADER_COOKIE2 "Cookie2"
#define MHD_HTTP_HEADER_SET_COOKIE2 "Set-Cookie2"
#define MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN "Access-Control-Allow-Origin"

/* functions */

/* Daemons. MHD_start_daemon returns NULL on failure, with errno. */
struct MHD_Daemon *MHD_start_daemon (unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback apc, void *apc_cls,
                                     MHD_AccessHandlerCallback dh, void *dh_cls, ...);
struct MHD_Daemon *MHD_start_daemon_va (unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback apc, void *apc_cls,
                                        MHD_AccessHandlerCallback dh, void *dh_cls, va_list ap);
void MHD_stop_daemon (struct MHD_Daemon *daemon);
/* Stops accepting. The caller closes the socket that it returns. */
MHD_socket MHD_quiesce_daemon (struct MHD_Daemon *daemon);
/* Serves a connected socket, and closes it in any case. */
enum MHD_Result MHD_add_connection (struct MHD_Daemon *daemon, MHD_socket client_socket, const struct sockaddr *addr,
                                    socklen_t addrlen);
/* Without a thread of its own a daemon works when it is run: when its descriptor is readable, or the timeout has
   passed. It has one descriptor, which it adds to the set for reading. */
enum MHD_Result MHD_get_fdset (struct MHD_Daemon *daemon, fd_set *read_fd_set, fd_set *write_fd_set,
                               fd_set *except_fd_set, MHD_socket *max_fd);
enum MHD_Result MHD_get_fdset2 (struct MHD_Daemon *daemon, fd_set *read_fd_set, fd_set *write_fd_set,
                                fd_set *except_fd_set, MHD_socket *max_fd, unsigned int fd_setsize);
enum MHD_Result MHD_get_timeout (struct MHD_Daemon *daemon, MHD_UNSIGNED_LONG_LONG *timeout);
enum MHD_Result MHD_get_timeout64 (struct MHD_Daemon *daemon, uint64_t *timeout);
int64_t MHD_get_timeout64s (struct MHD_Daemon *daemon);
int MHD_get_timeout_i (struct MHD_Daemon *daemon);
enum MHD_Result MHD_run (struct MHD_Daemon *daemon);
enum MHD_Result MHD_run_wait (struct MHD_Daemon *daemon, int32_t millisec);
enum MHD_Result MHD_run_from_select (struct MHD_Daemon *daemon, const fd_set *read_fd_set, const fd_set *write_fd_set,
                                     const fd_set *except_fd_set);
enum MHD_Result MHD_run_from_select2 (struct MHD_Daemon *daemon, const fd_set *read_fd_set, const fd_set *write_fd_set,
                                      const fd_set *except_fd_set, unsigned int fd_setsize);
const union MHD_DaemonInfo *MHD_get_daemon_info (struct MHD_Daemon *daemon, enum MHD_DaemonInfoType info_type, ...);
void MHD_set_panic_func (MHD_PanicCallback cb, void *cls);

/* Connections. */
const union MHD_ConnectionInfo *MHD_get_connection_info (struct MHD_Connection *connection,
                                                         enum MHD_ConnectionInfoType info_type, ...);
/* Not in the original, which gives a session of GnuTLS: the certificate of the client (DER), verified with the
   authorities of MHD_OPTION_HTTPS_MEM_TRUST, and its size. NULL if the client has sent none. */
const unsigned char *uncork_connection_client_certificate (struct MHD_Connection *connection, size_t *size);
enum MHD_Result MHD_set_connection_option (struct MHD_Connection *connection, enum MHD_CONNECTION_OPTION option, ...);
/* The path as the access handler gets it, and its length. */
enum MHD_Result MHD_get_connection_URI_path_n (struct MHD_Connection *connection, const char **uri, size_t *uri_size);
enum MHD_Result MHD_queue_response (struct MHD_Connection *connection, unsigned int status_code,
                                    struct MHD_Response *response);
void MHD_suspend_connection (struct MHD_Connection *connection);
void MHD_resume_connection (struct MHD_Connection *connection);

/* Values of a request. Names are compared in any case. */
int MHD_get_connection_values (struct MHD_Connection *connection, enum MHD_ValueKind kind,
                               MHD_KeyValueIterator iterator, void *iterator_cls);
int MHD_get_connection_values_n (struct MHD_Connection *connection, enum MHD_ValueKind kind,
                                 MHD_KeyValueIteratorN iterator, void *iterator_cls);
enum MHD_Result MHD_set_connection_value (struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key,
                                          const char *value);
enum MHD_Result MHD_set_connection_value_n (struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key,
                                            size_t key_size, const char *value, size_t value_size);
const char *MHD_lookup_connection_value (struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key);
enum MHD_Result MHD_lookup_connection_value_n (struct MHD_Connection *connection, enum MHD_ValueKind kind,
                                               const char *key, size_t key_size, const char **value_ptr,
                                               size_t *value_size_ptr);

/* The fields of a form in a body: urlencoded, or multipart. The iterator gets each value in one or more pieces, each
   with a NUL behind it. The buffer bounds a piece; it has at least 256 bytes. */
struct MHD_PostProcessor *MHD_create_post_processor (struct MHD_Connection *connection, size_t buffer_size,
                                                     MHD_PostDataIterator iter, void *iter_cls);
enum MHD_Result MHD_post_process (struct MHD_PostProcessor *pp, const char *post_data, size_t post_data_len);
enum MHD_Result MHD_destroy_post_processor (struct MHD_PostProcessor *pp);

/* Responses. MHD_destroy_response gives up the right to one that may still be sent. */
struct MHD_Response *MHD_create_response_from_buffer (size_t size, void *buffer, enum MHD_ResponseMemoryMode mode);
struct MHD_Response *MHD_create_response_from_buffer_static (size_t size, const void *buffer);
struct MHD_Response *MHD_create_response_from_buffer_copy (size_t size, const void *buffer);
struct MHD_Response *MHD_create_response_from_buffer_with_free_callback (size_t size, void *buffer,
                                                                         MHD_ContentReaderFreeCallback crfc);
struct MHD_Response *MHD_create_response_from_buffer_with_free_callback_cls (size_t size, const void *buffer,
                                                                             MHD_ContentReaderFreeCallback crfc,
                                                                             void *crfc_cls);
struct MHD_Response *MHD_create_response_from_data (size_t size, void *data, int must_free, int must_copy);
struct MHD_Response *MHD_create_response_from_callback (uint64_t size, size_t block_size, MHD_ContentReaderCallback crc,
                                                        void *crc_cls, MHD_ContentReaderFreeCallback crfc);
struct MHD_Response *MHD_create_response_from_fd (size_t size, int fd);
struct MHD_Response *MHD_create_response_from_fd64 (uint64_t size, int fd);
struct MHD_Response *MHD_create_response_from_fd_at_offset (size_t size, int fd, off_t offset);
struct MHD_Response *MHD_create_response_from_fd_at_offset64 (uint64_t size, int fd, uint64_t offset);
struct MHD_Response *MHD_create_response_from_pipe (int fd);
struct MHD_Response *MHD_create_response_from_iovec (const struct MHD_IoVec *iov, unsigned int iovcnt,
                                                     MHD_ContentReaderFreeCallback free_cb, void *cls);
struct MHD_Response *MHD_create_response_empty (enum MHD_ResponseFlags flags);
void MHD_destroy_response (struct MHD_Response *response);
enum MHD_Result MHD_set_response_options (struct MHD_Response *response, enum MHD_ResponseFlags flags, ...);
enum MHD_Result MHD_add_response_header (struct MHD_Response *response, const char *header, const char *content);
enum MHD_Result MHD_add_response_footer (struct MHD_Response *response, const char *footer, const char *content);
enum MHD_Result MHD_del_response_header (struct MHD_Response *response, const char *header, const char *content);
int MHD_get_response_headers (struct MHD_Response *response, MHD_KeyValueIterator iterator, void *iterator_cls);
const char *MHD_get_response_header (struct MHD_Response *response, const char *key);

/* Basic authentication. The functions that queue a response add a challenge to it, and send it with status 401. */
struct MHD_BasicAuthInfo *MHD_basic_auth_get_username_password3 (struct MHD_Connection *connection);
char *MHD_basic_auth_get_username_password (struct MHD_Connection *connection, char **password);
enum MHD_Result MHD_queue_basic_auth_required_response3 (struct MHD_Connection *connection, const char *realm,
                                                         int prefer_utf8, struct MHD_Response *response);
enum MHD_Result MHD_queue_basic_auth_fail_response (struct MHD_Connection *connection, const char *realm,
                                                    struct MHD_Response *response);

/* Digest authentication. A timeout or a count of 0 means the default of the daemon. */
struct MHD_DigestAuthInfo *MHD_digest_auth_get_request_info3 (struct MHD_Connection *connection);
struct MHD_DigestAuthUsernameInfo *MHD_digest_auth_get_username3 (struct MHD_Connection *connection);
char *MHD_digest_auth_get_username (struct MHD_Connection *connection);
enum MHD_DigestAuthResult MHD_digest_auth_check3 (struct MHD_Connection *connection, const char *realm,
                                                  const char *username, const char *password,
                                                  unsigned int nonce_timeout, uint32_t max_nc,
                                                  enum MHD_DigestAuthMultiQOP mqop,
                                                  enum MHD_DigestAuthMultiAlgo3 malgo3);
/* Takes the digest of name, realm and password by one algorithm. */
enum MHD_DigestAuthResult MHD_digest_auth_check_digest3 (struct MHD_Connection *connection, const char *realm,
                                                         const char *username, const void *userdigest,
                                                         size_t userdigest_size, unsigned int nonce_timeout,
                                                         uint32_t max_nc, enum MHD_DigestAuthMultiQOP mqop,
                                                         enum MHD_DigestAuthMultiAlgo3 malgo3);
/* The older functions return MHD_YES, MHD_NO or MHD_INVALID_NONCE. */
int MHD_digest_auth_check2 (struct MHD_Connection *connection, const char *realm, const char *username,
                            const char *password, unsigned int nonce_timeout, enum MHD_DigestAuthAlgorithm algo);
int MHD_digest_auth_check (struct MHD_Connection *connection, const char *realm, const char *username,
                           const char *password, unsigned int nonce_timeout);
int MHD_digest_auth_check_digest2 (struct MHD_Connection *connection, const char *realm, const char *username,
                                   const uint8_t *digest, size_t digest_size, unsigned int nonce_timeout,
                                   enum MHD_DigestAuthAlgorithm algo);
int MHD_digest_auth_check_digest (struct MHD_Connection *connection, const char *realm, const char *username,
                                  const uint8_t digest[MHD_MD5_DIGEST_SIZE], unsigned int nonce_timeout);
/* Of several algorithms, the challenge names one: MD5 if it is among them. */
enum MHD_Result MHD_queue_auth_required_response3 (struct MHD_Connection *connection, const char *realm,
                                                   const char *opaque, const char *domain,
                                                   struct MHD_Response *response, int signal_stale,
                                                   enum MHD_DigestAuthMultiQOP mqop,
                                                   enum MHD_DigestAuthMultiAlgo3 algo, int userhash_support,
                                                   int prefer_utf8);
enum MHD_Result MHD_queue_auth_fail_response2 (struct MHD_Connection *connection, const char *realm, const char *opaque,
                                               struct MHD_Response *response, int signal_stale,
                                               enum MHD_DigestAuthAlgorithm algo);
enum MHD_Result MHD_queue_auth_fail_response (struct MHD_Connection *connection, const char *realm, const char *opaque,
                                              struct MHD_Response *response, int signal_stale);
/* Hashes, for a list of users: of name and realm, and of name, realm and password. They need room for all of the hash,
   and for a NUL behind digits. */
size_t MHD_digest_get_hash_size (enum MHD_DigestAuthAlgo3 algo3);
enum MHD_Result MHD_digest_auth_calc_userhash (enum MHD_DigestAuthAlgo3 algo3, const char *username, const char *realm,
                                               void *userhash_bin, size_t bin_buf_size);
enum MHD_Result MHD_digest_auth_calc_userhash_hex (enum MHD_DigestAuthAlgo3 algo3, const char *username,
                                                   const char *realm, char *userhash_hex, size_t hex_buf_size);
enum MHD_Result MHD_digest_auth_calc_userdigest (enum MHD_DigestAuthAlgo3 algo3, const char *username,
                                                 const char *realm, const char *password, void *userdigest_bin,
                                                 size_t bin_buf_size);

/* Text and the library. */
size_t MHD_http_unescape (char *val);
const char *MHD_get_reason_phrase_for (unsigned int code);
size_t MHD_get_reason_phrase_len_for (unsigned int code);
const char *MHD_get_version (void);
uint32_t MHD_get_version_bin (void);
enum MHD_Result MHD_is_feature_supported (enum MHD_FEATURE feature);
void MHD_free (void *ptr);

/* Upgrades. The response needs the header field Upgrade, the status 101 (2xx if the method is CONNECT) and a daemon with
   MHD_ALLOW_UPGRADE. The completion is called once, when the upgraded connection has ended. */
struct MHD_Response *MHD_create_response_for_upgrade (MHD_UpgradeHandler upgrade_handler, void *upgrade_handler_cls);
enum MHD_Result MHD_upgrade_action (struct MHD_UpgradeResponseHandle *urh, enum MHD_UpgradeAction action, ...);

/* end of functions */

/* What the original does not have: upgrades by events. */
struct MHD_Response *MHD_create_response_for_upgrade_events (MHD_UpgradeEventHandler handler, void *cls);
/* For the handler during its call; 0 and MHD_NO elsewhere. The reasons for the call: bits of enum MHD_UpgradeReason. */
unsigned int MHD_upgrade_events (struct MHD_Connection *connection);
/* Half-closes behind the output of this call: the peer sees the end, and can still send. */
enum MHD_Result MHD_upgrade_finish (struct MHD_Connection *connection);
/* Aborts after this call: the output is dropped, and the peer sees a reset. */
enum MHD_Result MHD_upgrade_abort (struct MHD_Connection *connection);
/* Has the handler called once in that many milliseconds, whatever it waits for. A negative number cancels that. */
enum MHD_Result MHD_upgrade_set_deadline (struct MHD_Connection *connection, int64_t milliseconds);
/* Has the handler called if it waits for MHD_UPGRADE_EVENT_EXTERNAL. From any thread, from the time on when the response
   is queued, until the completion of the request has been called, or the end of the connection if there is none. */
enum MHD_Result MHD_upgrade_wake (struct MHD_Connection *connection);
/* Does that for all connections of a daemon without threads, which the program runs. A program that calls it before each
   run gives EXTERNAL the meaning of the proposal: a call in every turn of the program's loop. From the thread that runs
   the daemon; MHD_NO during a run. */
enum MHD_Result MHD_upgrade_wake_all (struct MHD_Daemon *daemon);

#ifdef __cplusplus
}
#endif

#endif
