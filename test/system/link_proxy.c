/* A link of a given round trip and rate between clients and one server, for measurements and tests.
 *
 *     link_proxy PORT SERVER ROUND_TRIP_MS MEGABYTES_PER_SECOND [COUNT_FILE]
 *
 * Listens on 127.0.0.1:PORT and passes each connection on to SERVER, 127.0.0.1:PORT or a unix socket's path. What either
 * side sends arrives half a round trip later, and all connections together get the rate, each way (0: any). As at a real
 * link there is a queue in front of it, of 2 ms; who sends more waits. Connecting takes a round trip, too. COUNT_FILE has,
 * when the proxy is ended by SIGTERM, how many bytes came from the server and how many connections there were.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 128 * 1024 };

struct chunk {
  struct chunk *next;
  int64_t due_ns;
  size_t size, sent;
  char bytes[];
};

/* One way through a connection. */
struct way {
  int from, to;
  int is_down; /* from the server */
  int ended;   /* no more comes */
  struct chunk *first, *last;
};

struct connection {
  struct connection *next;
  struct way ways[2];
  int64_t opens_ns; /* when the server hears of it */
  int client, server, is_dead;
};

static struct connection *connections;
static int64_t delay_ns, free_ns[2], bytes_down, count;
static double ns_per_byte;
static const char *server_name;
static volatile sig_atomic_t ends;

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void on_term(int number) {
  (void)number;
  ends = 1;
}

static int connect_server(void) {
  if (strchr(server_name, '/') != NULL) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", server_name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) close(fd), fd = -1;
    return fd;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  address.sin_port = htons((uint16_t)atoi(strrchr(server_name, ':') ? strrchr(server_name, ':') + 1 : server_name));
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) close(fd), fd = -1;
  if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return fd;
}

static void accept_client(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), one = 1;
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  struct connection *made = calloc(1, sizeof(*made));
  if (made == NULL) die("calloc");
  made->client = fd;
  made->server = -1;
  made->opens_ns = now_ns() + delay_ns;
  made->next = connections;
  connections = made;
  ++count;
}

static void open_server(struct connection *each) {
  each->server = connect_server();
  if (each->server < 0) {
    each->is_dead = 1;
    return;
  }
  fcntl(each->server, F_SETFL, O_NONBLOCK);
  each->ways[0] = (struct way){.from = each->client, .to = each->server, .is_down = 0};
  each->ways[1] = (struct way){.from = each->server, .to = each->client, .is_down = 1};
}

/* Takes what has come, as far as the link's queue has room. Whether something was there. */
static int take(struct way *way, int64_t now) {
  if (way->ended || free_ns[way->is_down] > now + 2000000) return 0;
  struct chunk *chunk = malloc(sizeof(*chunk) + CHUNK);
  if (chunk == NULL) die("malloc");
  ssize_t got = read(way->from, chunk->bytes, CHUNK);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    free(chunk);
    return 0;
  }
  chunk->size = got > 0 ? (size_t)got : 0; /* an empty one is the end */
  chunk->sent = 0;
  chunk->next = NULL;
  if (got <= 0) way->ended = 1;
  int64_t begin = free_ns[way->is_down] > now ? free_ns[way->is_down] : now;
  free_ns[way->is_down] = begin + (int64_t)((double)chunk->size * ns_per_byte);
  chunk->due_ns = free_ns[way->is_down] + delay_ns;
  if (way->is_down) bytes_down += (int64_t)chunk->size;
  if (way->last != NULL) way->last->next = chunk;
  else way->first = chunk;
  way->last = chunk;
  return 1;
}

/* Hands on what is due. False when the connection is broken. */
static int pass(struct way *way, int64_t now) {
  while (way->first != NULL && way->first->due_ns <= now) {
    struct chunk *chunk = way->first;
    if (chunk->size == 0) shutdown(way->to, SHUT_WR);
    while (chunk->sent < chunk->size) {
      ssize_t put = send(way->to, chunk->bytes + chunk->sent, chunk->size - chunk->sent, MSG_NOSIGNAL);
      if (put < 0 && errno == EAGAIN) return 1;
      if (put < 0) return 0;
      chunk->sent += (size_t)put;
    }
    way->first = chunk->next;
    if (way->first == NULL) way->last = NULL;
    free(chunk);
  }
  return 1;
}

static void forget(struct connection *dead) {
  for (int i = 0; i < 2; ++i) {
    for (struct chunk *chunk = dead->ways[i].first, *next; chunk != NULL; chunk = next) next = chunk->next, free(chunk);
  }
  close(dead->client);
  if (dead->server >= 0) close(dead->server);
  free(dead);
}

/* One round over all connections. Whether anything moved. */
static int work(int64_t now) {
  int moved = 0;
  for (struct connection **place = &connections; *place != NULL;) {
    struct connection *each = *place;
    if (each->server < 0 && !each->is_dead && each->opens_ns <= now) open_server(each), moved = 1;
    for (int i = 0; i < 2 && each->server >= 0; ++i) {
      struct way *way = &each->ways[i];
      struct chunk *before = way->first;
      size_t sent = before ? before->sent : 0;
      moved |= take(way, now);
      if (!pass(way, now)) each->is_dead = 1;
      moved |= before != NULL && (way->first != before || before->sent != sent);
    }
    int over = each->server >= 0 && each->ways[0].ended && each->ways[1].ended && !each->ways[0].first && !each->ways[1].first;
    if (each->is_dead || over) {
      *place = each->next;
      forget(each);
    } else {
      place = &each->next;
    }
  }
  return moved;
}

int main(int argc, char **argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: link_proxy PORT SERVER ROUND_TRIP_MS MEGABYTES_PER_SECOND [COUNT_FILE]\n");
    return 2;
  }
  server_name = argv[2];
  delay_ns = (int64_t)(atof(argv[3]) * 1e6 / 2);
  ns_per_byte = atof(argv[4]) > 0 ? 1e3 / atof(argv[4]) : 0;
  signal(SIGTERM, on_term);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  address.sin_port = htons((uint16_t)atoi(argv[1]));
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0) die("bind");
  if (listen(listener, 128) != 0) die("listen");
  struct timespec pause = {.tv_nsec = 50000}; /* far below any round trip that is asked for */
  while (!ends) {
    accept_client(listener);
    if (!work(now_ns())) nanosleep(&pause, NULL);
  }
  if (argc > 5) {
    FILE *file = fopen(argv[5], "w");
    if (file == NULL) die(argv[5]);
    fprintf(file, "%lld %lld\n", (long long)bytes_down, (long long)count);
    fclose(file);
  }
  return 0;
}
