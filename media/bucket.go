package media

import (
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
)

// s3Part is what a part of an upload to a bucket has to have at least, and about what it holds in memory.
const s3Part = 5 << 20

// writerOptions have a bucket's uploads go out part by part, one at a time.
func (s *Store) writerOptions(mimetype string) *blob.WriterOptions {
	o := &blob.WriterOptions{ContentType: mimetype, BufferSize: s3Part, MaxConcurrency: 1, DisableContentTypeDetection: true}
	var client *s3.Client
	if !s.bucket.As(&client) {
		return o
	}
	o.BeforeWrite = func(as func(any) bool) error {
		var uploads *transfermanager.Client
		if as(&uploads) { // which would hold the first 16 MB in memory before it begins
			*uploads = *transfermanager.New(client, func(o *transfermanager.Options) {
				o.PartSizeBytes, o.MultipartUploadThreshold, o.Concurrency = s3Part, s3Part, 1
			})
		}
		return nil
	}
	return o
}
