#pragma once

#include <string>

namespace blobcache::fusefs {

/// Sends what libfuse has to say to our log instead of stderr. libfuse has one log function a
/// process, so this holds for all mounts; calling it again changes nothing. Thread-safe.
void route_fuse_log();

/// Keeps what libfuse says on this thread, for as long as this lives, instead of logging it: a
/// failed mount becomes one error sentence. Captures do not nest. After route_fuse_log().
class FuseLogCapture {
 public:
  FuseLogCapture();
  ~FuseLogCapture();
  FuseLogCapture(const FuseLogCapture&) = delete;
  FuseLogCapture& operator=(const FuseLogCapture&) = delete;

  /// The messages so far, joined by "; "; empty when there were none.
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace blobcache::fusefs
