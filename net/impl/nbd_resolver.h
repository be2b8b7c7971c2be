#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace blobcache::net {

/// Looks one host's name up, on a thread of its own that nobody waits for: the system's resolver
/// may take tens of seconds when nothing answers, and cannot be stopped. At most one lookup is
/// under way; who asks meanwhile shares its answer. What it shares with that thread outlives it, so
/// that its end does not wait either.
///
/// The addresses found last are remembered. They are the answer when a later lookup fails, or takes
/// longer than kPatience, counted from where it began.
///
/// Thread-safe.
class NbdResolver {
  struct State;
  struct Waiter;

 public:
  /// As text, in the order in which to try them; never empty.
  using Addresses = std::vector<std::string>;
  /// May block. UNAVAILABLE when there are none.
  using LookUp = std::function<absl::StatusOr<Addresses>(const std::string& host)>;
  enum class Remembered {
    kUse,
    kIgnore,  ///< only a lookup that ends well answers
  };
  static constexpr absl::Duration kPatience = absl::Milliseconds(500);
  static constexpr size_t kMaxAddresses = 16;

  /// What was asked. One thread at a time; may outlive the resolver.
  class Question {
   public:
    Question(std::shared_ptr<State> state, std::shared_ptr<Waiter> waiter);
    /// For poll(2): there is something to read when answer() is worth a call. Negative where the
    /// answer is there already.
    [[nodiscard]] int fd() const;
    /// Empty as long as there is none. UNAVAILABLE when the name has no address, or a file or
    /// thread is wanting.
    [[nodiscard]] std::optional<absl::StatusOr<Addresses>> answer();

   private:
    std::shared_ptr<State> state_;
    std::shared_ptr<Waiter> waiter_;
  };

  /// getaddrinfo(3), for TCP.
  [[nodiscard]] static absl::StatusOr<Addresses> look_up_addresses(const std::string& host);
  /// True for an address, which needs no lookup: IPv4 or IPv6 without brackets.
  [[nodiscard]] static bool is_address(const std::string& host);

  explicit NbdResolver(std::string host, LookUp look_up = look_up_addresses);

  /// Begins a lookup, unless one is under way. Never waits.
  [[nodiscard]] std::unique_ptr<Question> ask(Remembered remembered);
  /// That address did not answer: from now on it is tried last.
  void unreachable(const std::string& address);

 private:
  static void run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace blobcache::net
