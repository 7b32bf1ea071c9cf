// What crosses the boundary between C++ and Rust: no exception, only its text.
#pragma once

#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

#include <c10/util/Exception.h>

namespace hessian_probe {

inline char* message(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) {
    std::memcpy(copy, text.c_str(), text.size() + 1);
  }
  return copy;
}

// Runs `body`; returns null, or the text of what it threw, to be given back to hp_free.
template <typename Body>
char* guarded(Body&& body) noexcept {
  try {
    try {
      body();
      return nullptr;
    } catch (const c10::Error& error) {
      // Without the C++ stack, which says nothing to a user of the Rust side.
      return message(error.what_without_backtrace());
    } catch (const std::exception& error) {
      return message(error.what());
    } catch (...) {
      return message("an exception of unknown type");
    }
  } catch (...) {
    std::abort(); // out of memory while reporting an error
  }
}

} // namespace hessian_probe
