#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <cstddef>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

namespace {

/// The last lines that were logged.
class LastLines : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    lines_.clear();
  }
  void print() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::string& line : lines_) {
      std::fputs(line.c_str(), stderr);
    }
  }

 private:
  static constexpr size_t kLines = 200;

  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (lines_.size() == kLines) lines_.pop_front();
    lines_.emplace_back(line.data(), line.size());
  }
  void flush_() override {}

  std::deque<std::string> lines_;
};

/// What a test case logs is shown when the case fails, and only then: most of what the tests do is
/// there to be complained of, and would bury the one line that matters.
class LogOfFailures : public doctest::IReporter {
 public:
  explicit LogOfFailures(const doctest::ContextOptions& /*options*/) {
    spdlog::default_logger()->sinks() = {lines_};
  }

  void test_case_start(const doctest::TestCaseData& /*test*/) override { lines_->clear(); }
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (stats.failure_flags != doctest::TestCaseFailureReason::None) lines_->print();
  }

  void report_query(const doctest::QueryData& /*query*/) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& /*stats*/) override {}
  void test_case_reenter(const doctest::TestCaseData& /*test*/) override {}
  void test_case_exception(const doctest::TestCaseException& /*exception*/) override {}
  void subcase_start(const doctest::SubcaseSignature& /*subcase*/) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& /*assertion*/) override {}
  void log_message(const doctest::MessageData& /*message*/) override {}
  void test_case_skipped(const doctest::TestCaseData& /*test*/) override {}

 private:
  std::shared_ptr<LastLines> lines_ = std::make_shared<LastLines>();
};

REGISTER_LISTENER("log of failures", 1, LogOfFailures);

}  // namespace
