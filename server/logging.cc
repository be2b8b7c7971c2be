#include "server/logging.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

namespace blobcache::server {
namespace {

constexpr std::string_view kLoggerName = "blobcached";

/// "<N>", where N is the message's priority as syslog(3) and the journal number them.
class PriorityFlag : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
              spdlog::memory_buf_t& into) override {
    const std::string prefix = fmt::format("<{}>", priority(message.level));
    into.append(prefix.data(), prefix.data() + prefix.size());
  }
  [[nodiscard]] std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<PriorityFlag>();
  }

 private:
  static int priority(spdlog::level::level_enum level) {
    constexpr int kCritical = 2;
    constexpr int kError = 3;
    constexpr int kWarning = 4;
    constexpr int kInformational = 6;
    constexpr int kDebug = 7;
    switch (level) {
      case spdlog::level::critical:
        return kCritical;
      case spdlog::level::err:
        return kError;
      case spdlog::level::warn:
        return kWarning;
      case spdlog::level::info:
        return kInformational;
      default:
        return kDebug;
    }
  }
};

std::unique_ptr<spdlog::formatter> make_formatter() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  if (is_journal(stream == nullptr ? "" : stream, STDERR_FILENO)) {
    formatter->add_flag<PriorityFlag>('*').set_pattern("%*%v");
  } else {
    formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  }
  return formatter;
}

}  // namespace

void start_logging() {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>(std::string(kLoggerName), std::move(sink));
  logger->set_formatter(make_formatter());
  logger->set_level(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
}

void set_log_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::set_level(spdlog::level::debug);
    case LogLevel::kInfo:
      return spdlog::set_level(spdlog::level::info);
    case LogLevel::kWarning:
      return spdlog::set_level(spdlog::level::warn);
    case LogLevel::kError:
      return spdlog::set_level(spdlog::level::err);
  }
}

void log_always(std::string_view line) {
  // Past the logger, whose level might hide it, straight to where its messages go.
  const spdlog::details::log_msg message(
      spdlog::string_view_t(kLoggerName.data(), kLoggerName.size()), spdlog::level::info,
      spdlog::string_view_t(line.data(), line.size()));
  for (const spdlog::sink_ptr& sink : spdlog::default_logger_raw()->sinks()) {
    sink->log(message);
    sink->flush();
  }
}

bool is_journal(std::string_view journal_stream, int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return false;
  return journal_stream == fmt::format("{}:{}", info.st_dev, info.st_ino);
}

}  // namespace blobcache::server
