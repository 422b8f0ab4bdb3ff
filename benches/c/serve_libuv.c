/* libuv's server, the documented way: uv_read_start, then uv_try_write and, for what the kernel
 * did not take at once, uv_write. The contract is in ../README.md; --api makes no
 * difference here.
 *
 * All connections share one read buffer: what a callback received is sent, copied or counted
 * before the next read. While something is queued on a connection nothing more is read from it,
 * so a client that does not receive cannot make us grow.
 */

#define _GNU_SOURCE /* memrchr */

#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#define BACKLOG 4096
#define CHUNK (64 * 1024)

typedef union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe; /* libuv's name for a unix socket */
} socket_t;

typedef struct {
    socket_t socket; /* first, so that a handle's address is its connection's */
    uv_write_t write;
    char *queued; /* what `write` is sending, if it had to be copied */
    char *line;   /* the beginning of a line whose end has not come yet */
    size_t line_size;
    size_t line_capacity;
    uint64_t count; /* upload: bytes received; download: bytes still to be sent */
    unsigned char head[8];
    size_t head_size; /* download: how much of `head` has come */
    int writing;
    int ended; /* there is nothing more to come: close when all is sent */
} connection_t;

/* What a kind of work does with bytes. */
typedef void (*received_cb)(connection_t *connection, const char *data, size_t size);

static char *read_buffer;
static size_t read_buffer_size = CHUNK;
static char payload[CHUNK];
static uv_loop_t *loop;
static received_cb received;
static int counts_uploads;
static int joins_lines;
static int over_unix;

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);
static void download(connection_t *connection);

static void *checked(void *memory) {
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return memory;
}

static void on_close(uv_handle_t *handle) {
    connection_t *connection = (connection_t *)handle;
    free(connection->queued);
    free(connection->line);
    free(connection);
}

static void close_connection(connection_t *connection) {
    if (!uv_is_closing(&connection->socket.handle))
        uv_close(&connection->socket.handle, on_close);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(read_buffer, read_buffer_size);
}

static void on_written(uv_write_t *request, int status) {
    connection_t *connection = request->data;
    connection->writing = 0;
    free(connection->queued);
    connection->queued = NULL;
    if (status < 0 || connection->ended)
        close_connection(connection);
    else if (connection->count > 0)
        download(connection);
    else
        uv_read_start(&connection->socket.stream, on_alloc, on_read);
}

/* Queues `data`, which stays valid until on_written. */
static void queue(connection_t *connection, char *data, size_t size) {
    uv_stream_t *stream = &connection->socket.stream;
    uv_buf_t buffer = uv_buf_init(data, size);
    connection->write.data = connection;
    connection->writing = 1;
    uv_read_stop(stream);
    if (uv_write(&connection->write, stream, &buffer, 1, on_written) < 0)
        close_connection(connection);
}

/* How much the kernel took at once, which may be nothing; less than 0 if the connection is gone. */
static ssize_t try_send(connection_t *connection, const char *data, size_t size) {
    uv_buf_t buffer = uv_buf_init((char *)data, size);
    int sent = uv_try_write(&connection->socket.stream, &buffer, 1);
    if (sent == UV_EAGAIN)
        return 0;
    if (sent < 0)
        close_connection(connection);
    return sent;
}

/* Queues a copy of what try_send left. */
static void queue_copy(connection_t *connection, const char *data, size_t size) {
    connection->queued = checked(malloc(size));
    memcpy(connection->queued, data, size);
    queue(connection, connection->queued, size);
}

static void echo(connection_t *connection, const char *data, size_t size) {
    ssize_t sent = try_send(connection, data, size);
    if (sent >= 0 && (size_t)sent < size)
        queue_copy(connection, data + sent, size - sent);
}

static void keep_line(connection_t *connection, const char *data, size_t size) {
    size_t needed = connection->line_size + size;
    if (needed > connection->line_capacity) {
        connection->line_capacity = 2 * needed;
        connection->line = checked(realloc(connection->line, connection->line_capacity));
    }
    memcpy(connection->line + connection->line_size, data, size);
    connection->line_size = needed;
}

/* Sends whole lines, one by one or together. Returns less than 0 if the connection is gone. */
static ssize_t send_lines(connection_t *connection, const char *data, size_t size) {
    while (size > 0) {
        size_t one = joins_lines ? size : (size_t)((char *)memchr(data, '\n', size) - data) + 1;
        ssize_t sent = try_send(connection, data, one);
        if (sent < 0)
            return sent;
        if ((size_t)sent < one) {
            queue_copy(connection, data + sent, size - sent);
            return 0;
        }
        data += one;
        size -= one;
    }
    return 0;
}

static void lines(connection_t *connection, const char *data, size_t size) {
    const char *newline = memrchr(data, '\n', size);
    if (newline == NULL) {
        keep_line(connection, data, size);
        return;
    }
    size_t whole = newline + 1 - data;
    size_t rest = size - whole;
    if (connection->line_size > 0) {
        keep_line(connection, data, whole);
        data = connection->line;
        whole = connection->line_size;
        connection->line_size = 0;
    }
    if (send_lines(connection, data, whole) == 0 && rest > 0)
        keep_line(connection, newline + 1, rest);
}

static void upload(connection_t *connection, const char *data, size_t size) {
    (void)data;
    connection->count += size;
}

static uint64_t little_endian(const unsigned char *bytes) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static void download_head(connection_t *connection, const char *data, size_t size) {
    size_t missing = sizeof connection->head - connection->head_size;
    size_t taken = size < missing ? size : missing;
    memcpy(connection->head + connection->head_size, data, taken);
    connection->head_size += taken;
    if (connection->head_size == sizeof connection->head) {
        connection->count = little_endian(connection->head);
        download(connection);
    }
}

/* Sends the next chunk; on_written comes back here until there is none. */
static void download(connection_t *connection) {
    size_t size = connection->count < CHUNK ? connection->count : CHUNK;
    connection->count -= size;
    connection->ended = connection->count == 0;
    queue(connection, payload, size);
}

/* The client has ended its half: what is still owed goes out, then the connection closes. */
static void on_end(connection_t *connection) {
    connection->ended = 1;
    if (counts_uploads) {
        char answer[8];
        for (int i = 0; i < 8; i++)
            answer[i] = (char)(connection->count >> 8 * i);
        echo(connection, answer, sizeof answer);
    } else if (connection->line_size > 0) {
        echo(connection, connection->line, connection->line_size);
    }
    if (!connection->writing)
        close_connection(connection);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    connection_t *connection = (connection_t *)stream;
    if (size > 0)
        received(connection, buffer->base, size);
    else if (size == UV_EOF)
        on_end(connection);
    else if (size < 0)
        close_connection(connection);
}

static void check(int status) {
    if (status < 0) {
        fprintf(stderr, "%s\n", uv_strerror(status));
        exit(1);
    }
}

static int init_socket(socket_t *socket) {
    return over_unix ? uv_pipe_init(loop, &socket->pipe, 0) : uv_tcp_init(loop, &socket->tcp);
}

static void on_connection(uv_stream_t *server, int status) {
    /* A failed accept, for want of descriptors for example, costs that connection only. */
    if (status < 0)
        return;
    connection_t *connection = checked(calloc(1, sizeof *connection));
    check(init_socket(&connection->socket));
    if (uv_accept(server, &connection->socket.stream) < 0)
        close_connection(connection);
    else
        uv_read_start(&connection->socket.stream, on_alloc, on_read);
}

static void refuse(const char *what, const char *value) {
    fprintf(stderr, "%s %s\n", what, value);
    exit(2);
}

static void choose_work(const char *name) {
    joins_lines = strcmp(name, "lines-buffered") == 0;
    counts_uploads = strcmp(name, "upload") == 0;
    if (strcmp(name, "echo") == 0)
        received = echo;
    else if (strcmp(name, "lines") == 0 || joins_lines)
        received = lines;
    else if (counts_uploads)
        received = upload;
    else if (strcmp(name, "download") == 0)
        received = download_head;
    else
        refuse("no --work is called", name);
}

static void choose_transport(const char *name) {
    over_unix = strcmp(name, "unix") == 0;
    if (!over_unix && strcmp(name, "tcp") != 0)
        refuse("--listen is tcp or unix, not", name);
}

static void parse_options(int argc, char **argv) {
    received = echo;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            refuse("no value for", argv[i]);
        if (strcmp(argv[i], "--work") == 0)
            choose_work(argv[i + 1]);
        else if (strcmp(argv[i], "--listen") == 0)
            choose_transport(argv[i + 1]);
        else if (strcmp(argv[i], "--buffer") == 0)
            read_buffer_size = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--api") != 0)
            refuse("there is no option", argv[i]);
    }
    if (read_buffer_size == 0)
        refuse("--buffer is a number of bytes, not", "0");
    read_buffer = checked(malloc(read_buffer_size));
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* At 127.0.0.1 and a port of the kernel's choice. */
static void listen_over_tcp(uv_tcp_t *server) {
    struct sockaddr_in address;
    int length = sizeof address;
    check(uv_ip4_addr("127.0.0.1", 0, &address));
    check(uv_tcp_bind(server, (const struct sockaddr *)&address, 0));
    /* On Linux, accepted sockets inherit it. */
    check(uv_tcp_nodelay(server, 1));
    check(uv_listen((uv_stream_t *)server, BACKLOG, on_connection));
    check(uv_tcp_getsockname(server, (struct sockaddr *)&address, &length));
    printf("%d\n", ntohs(address.sin_port));
}

/* Among the temporary files, at nobody else's path. */
static void listen_over_unix(uv_pipe_t *server) {
    char folder[PATH_MAX];
    size_t size = sizeof folder;
    char path[PATH_MAX + 32];
    check(uv_os_tmpdir(folder, &size));
    snprintf(path, sizeof path, "%s/serve-%d", folder, (int)uv_os_getpid());
    check(uv_pipe_bind(server, path));
    check(uv_listen((uv_stream_t *)server, BACKLOG, on_connection));
    printf("%s\n", path);
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    raise_descriptor_limit();
    /* libuv leaves it to its users: a client that is gone is an error of the write. */
    signal(SIGPIPE, SIG_IGN);
    loop = uv_default_loop();

    socket_t server;
    check(init_socket(&server));
    if (over_unix)
        listen_over_unix(&server.pipe);
    else
        listen_over_tcp(&server.tcp);
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
