# cmake -DROOT=kernels/cuda -DFILES="a;b" -DOUTPUT=x.cc -P embed_cuda.cmake: the kernel sources as a table of texts, so that llcc
# carries what it compiles. Names are relative to ROOT, as the sources include each other.
set(text "// Made by cmake/embed_cuda.cmake.\n#include \"compiler/codegen/cuda_sources.h\"\n\nnamespace ll {\nnamespace {\n\nconstexpr CudaSource kSources[] = {\n")
list(SORT FILES)
foreach(file ${FILES})
  file(READ ${ROOT}/${file} content)
  string(APPEND text "    {\"${file}\", R\"LLCUDA(${content})LLCUDA\"},\n")
endforeach()
string(APPEND text "    {\"\", \"\"}};\n\n}  // namespace\n\nstd::span<const CudaSource> cuda_sources() { return std::span(kSources).first(std::size(kSources) - 1); }\n\n}  // namespace ll\n")
file(WRITE ${OUTPUT} "${text}")
