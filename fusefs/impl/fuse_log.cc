#include "fusefs/impl/fuse_log.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <string_view>

#include "fusefs/impl/fuse.h"

namespace blobcache::fusefs {
namespace {

// libfuse's log function has no user data, so the thread is what tells whose message it is.
thread_local std::string* captured = nullptr;

spdlog::level::level_enum level_of(fuse_log_level level) {
  switch (level) {
    case FUSE_LOG_EMERG:
    case FUSE_LOG_ALERT:
    case FUSE_LOG_CRIT:
      return spdlog::level::critical;
    case FUSE_LOG_ERR:
      return spdlog::level::err;
    case FUSE_LOG_WARNING:
      return spdlog::level::warn;
    case FUSE_LOG_NOTICE:
    case FUSE_LOG_INFO:
      return spdlog::level::info;
    case FUSE_LOG_DEBUG:
      return spdlog::level::debug;
  }
  return spdlog::level::info;
}

__attribute__((format(printf, 2, 0))) void on_message(fuse_log_level level, const char* format,
                                                      va_list arguments) {
  std::array<char, 1024> buffer;
  const int length = std::vsnprintf(buffer.data(), buffer.size(), format, arguments);
  if (length < 0) return;
  std::string_view text(buffer.data());
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  constexpr std::string_view kPrefix = "fuse: ";
  if (text.starts_with(kPrefix)) text.remove_prefix(kPrefix.size());
  if (captured == nullptr) {
    spdlog::log(level_of(level), "fuse: {}", text);
    return;
  }
  if (!captured->empty()) captured->append("; ");
  captured->append(text);
}

}  // namespace

void route_fuse_log() { fuse_set_log_func(&on_message); }

FuseLogCapture::FuseLogCapture() { captured = &text_; }

FuseLogCapture::~FuseLogCapture() { captured = nullptr; }

}  // namespace blobcache::fusefs
