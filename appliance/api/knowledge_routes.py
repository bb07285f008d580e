"""The paths of files and knowledge bases, as `routes` lists them."""

from __future__ import annotations

from appliance.api import files, vector_store_files, vector_stores
from appliance.api import knowledge_replies as replies
from appliance.api import knowledge_schemas as schemas
from appliance.api.operation import Operation

READING = (400, 404, 503)
WRITING = (400, 403, 404, 408, 413, 429, 503, 507)

STORE = "/v1/vector_stores/{vector_store_id}"
FILE = STORE + "/files/{file_id}"
BATCH = STORE + "/file_batches/{batch_id}"

KNOWLEDGE_OPERATIONS = (
    Operation(
        "POST",
        "/v1/files",
        files.create_file,
        "Upload a file",
        replies.FileObject,
        schemas.UploadForm,
        WRITING,
        request_media="multipart/form-data",
    ),
    Operation(
        "GET",
        "/v1/files",
        files.list_files,
        "The uploaded files",
        replies.FileList,
        errors=READING,
        query=schemas.ListFilesQuery,
    ),
    Operation("GET", "/v1/files/{file_id}", files.get_file, "One file", replies.FileObject, errors=READING),
    Operation(
        "DELETE", "/v1/files/{file_id}", files.delete_file, "Delete a file", replies.Deleted, errors=WRITING
    ),
    Operation(
        "GET",
        "/v1/files/{file_id}/content",
        files.get_file_content,
        "A file's bytes",
        "application/octet-stream",
        errors=READING,
    ),
    Operation(
        "POST",
        "/v1/vector_stores",
        vector_stores.create_vector_store,
        "Make a knowledge base",
        replies.VectorStore,
        schemas.CreateVectorStore,
        WRITING,
    ),
    Operation(
        "GET",
        "/v1/vector_stores",
        vector_stores.list_vector_stores,
        "The knowledge bases",
        replies.VectorStoreList,
        errors=READING,
        query=schemas.ListQuery,
    ),
    Operation(
        "GET",
        STORE,
        vector_stores.get_vector_store,
        "One knowledge base",
        replies.VectorStore,
        errors=READING,
    ),
    Operation(
        "POST",
        STORE,
        vector_stores.update_vector_store,
        "Change a knowledge base's name, metadata or expiry",
        replies.VectorStore,
        schemas.UpdateVectorStore,
        WRITING,
    ),
    Operation(
        "DELETE",
        STORE,
        vector_stores.delete_vector_store,
        "Delete a knowledge base; its files stay",
        replies.Deleted,
        errors=WRITING,
    ),
    Operation(
        "POST",
        STORE + "/search",
        vector_stores.search_vector_store,
        "The passages that answer a question",
        replies.SearchPage,
        schemas.SearchVectorStore,
        (400, 404, 408, 413, 429, 503),
    ),
    Operation(
        "POST",
        STORE + "/reindex",
        vector_stores.reindex_vector_store,
        "Make every chunk and vector anew, and swap",
        replies.Reindexed,
        schemas.ReindexVectorStore,
        WRITING,
    ),
    Operation(
        "POST",
        STORE + "/files",
        vector_store_files.create_vector_store_file,
        "Put a file into a knowledge base",
        replies.VectorStoreFile,
        schemas.AttachFile,
        WRITING,
    ),
    Operation(
        "GET",
        STORE + "/files",
        vector_store_files.list_vector_store_files,
        "The files in a knowledge base",
        replies.VectorStoreFileList,
        errors=READING,
        query=schemas.ListDocumentsQuery,
    ),
    Operation(
        "GET",
        FILE,
        vector_store_files.get_vector_store_file,
        "What became of a file",
        replies.VectorStoreFile,
        errors=READING,
    ),
    Operation(
        "POST",
        FILE,
        vector_store_files.update_vector_store_file,
        "Change a file's attributes",
        replies.VectorStoreFile,
        schemas.UpdateAttributes,
        WRITING,
    ),
    Operation(
        "DELETE",
        FILE,
        vector_store_files.delete_vector_store_file,
        "Take a file out of a knowledge base",
        replies.Deleted,
        errors=WRITING,
    ),
    Operation(
        "GET",
        FILE + "/content",
        vector_store_files.get_vector_store_file_content,
        "The text that was read out of a file",
        replies.FileContentPage,
        errors=READING,
    ),
    Operation(
        "POST",
        STORE + "/file_batches",
        vector_store_files.create_file_batch,
        "Put many files into a knowledge base",
        replies.FileBatch,
        schemas.CreateFileBatch,
        WRITING,
    ),
    Operation(
        "GET",
        BATCH,
        vector_store_files.get_file_batch,
        "What became of a batch",
        replies.FileBatch,
        errors=READING,
    ),
    Operation(
        "POST",
        BATCH + "/cancel",
        vector_store_files.cancel_file_batch,
        "End what of a batch has not been read",
        replies.FileBatch,
        errors=WRITING,
    ),
    Operation(
        "GET",
        BATCH + "/files",
        vector_store_files.list_file_batch_files,
        "The files of a batch",
        replies.VectorStoreFileList,
        errors=READING,
        query=schemas.ListDocumentsQuery,
    ),
)
