#include "server/ctl/impl/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

/// 0, or errno.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

/// Messages of libraries and of the daemon may hold line breaks; they become spaces. Other control
/// characters, which names bring in, become visible.
std::string one_line(std::string_view message) {
  std::string spaced(message);
  for (char& c : spaced) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  }
  std::string out;
  // Names in messages are escaped already where we put them there: their backslashes stand as they
  // are.
  size_t begin = 0;
  while (begin <= spaced.size()) {
    const size_t end = std::min(spaced.find('\\', begin), spaced.size());
    out += escape(std::string_view(spaced).substr(begin, end - begin));
    if (end < spaced.size()) out += '\\';
    begin = end + 1;
  }
  while (out.ends_with(' ')) out.pop_back();
  return out;
}

}  // namespace

Outcome print(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == 0) return Outcome::done();
  if (error == EPIPE) return Outcome::broken_pipe();
  return Outcome::failed("standard output", base::errno_error(error, "cannot write it"));
}

Outcome print_json(const nlohmann::ordered_json& document) {
  constexpr int kIndent = 2;
  return print(
      document.dump(kIndent, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void print_error(std::string_view message) {
  (void)write_all(STDERR_FILENO, fmt::format("blobcachectl: {}\n", one_line(message)));
}

}  // namespace blobcache::ctl
