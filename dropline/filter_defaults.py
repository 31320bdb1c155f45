"""The default globs of the filters: content types to download, and names of objects that are no photographs."""

#: Content types without a statement about the bytes, in lower case and without parameters. Such an object is
#: downloaded, and the bytes decide. The empty glob stands for a missing type and for a text that is no
#: `type/subtype`. Any other type, such as `text/html`, is a statement: the object is filtered and counted.
UNKNOWN_CONTENT_TYPES = (
    "",
    # Defaults of Cloud Storage and of S3.
    "*/octet-stream",
    "*/x-octet-stream",
    "*/octetstream",
    "binary/*",
    "*/binary",
    "*/x-binary",
    "*/*unknown*",
    "unknown/*",
    # Literal asterisks, as some clients send.
    "[*]/[*]",
    "application/[*]",
    # Defaults of HTTP clients for a request body.
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/*download",
    "*/x-empty",
    # Misspelt image types.
    "application/*jpg",
    "application/*jpeg",
    "application/*png",
    "application/*gif",
    "application/*webp",
    "application/*heic",
    "application/*heif",
    "application/*avif",
    "application/*bmp",
    "application/*tif",
    "application/*tiff",
    "application/image",
    "file/*",
    "images/*",
    "img/*",
    "jpeg/*",
    "jpg/*",
    "photo/*",
    "picture/*",
    "png/*",
)

#: Objects that programs write beside photographs.
AUXILIARY_OBJECTS = (
    # Unfinished files of gcsfuse and of Unix programs on a mounted bucket.
    "**/.gcsfuse_tmp/**",
    "**/.fuse_hidden*",
    "**/.nfs*",
    "**/.goutputstream-*",
    # Placeholders and markers of Hadoop and Spark.
    "**/*_$folder$",
    "**/_SUCCESS",
    "**/_temporary/**",
    # macOS and Windows.
    "**/.DS_Store",
    "**/._*",
    "**/__MACOSX/**",
    "**/[Tt]humbs.db",
    "**/[Dd]esktop.ini",
    # Thumbnails, deleted files and versions of storage appliances and of Syncthing.
    "**/@eaDir/**",
    "**/#recycle/**",
    "**/#snapshot/**",
    "**/.stfolder/**",
    "**/.stversions/**",
)
