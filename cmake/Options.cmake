# Build type, language, warnings, sanitizers, ccache.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# What our own code is compiled with; generated code is not.
add_library(blobcache_warnings INTERFACE)
target_compile_options(blobcache_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
  -Woverloaded-virtual -Wnull-dereference -Wimplicit-fallthrough -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(blobcache_warnings INTERFACE -Wthread-safety -Wthread-safety-beta)
else()
  # g++ 12 sees null dereferences and dangling uses that are not there once it inlines the standard library.
  target_compile_options(blobcache_warnings INTERFACE -Wno-null-dereference)
endif()

option(BLOBCACHE_FUZZ "Build the fuzz targets, and everything for them (clang, libFuzzer)" OFF)
if(BLOBCACHE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "BLOBCACHE_FUZZ needs clang: -DCMAKE_CXX_COMPILER=clang++-19")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

set(BLOBCACHE_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread; empty for none")
if(BLOBCACHE_SANITIZE)
  add_compile_options(-fsanitize=${BLOBCACHE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BLOBCACHE_SANITIZE})
endif()
