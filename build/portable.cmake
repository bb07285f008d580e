# Read by CMake like lean.cmake, for the libraries that travel inside the executable.

include("${CMAKE_CURRENT_LIST_DIR}/lean.cmake")

# pip builds in a directory with a random name, which assertions would carry into the libraries: two
# builds would never be the same bytes.
add_compile_options(
    "-ffile-prefix-map=${CMAKE_SOURCE_DIR}=llama-cpp-python" "-ffile-prefix-map=${CMAKE_BINARY_DIR}=build")
