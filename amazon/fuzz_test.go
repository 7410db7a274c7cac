package amazon

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// everySeed are responses that a fuzzer begins with.
func everySeed() []string {
	seeds := []string{"", "<", "<R/>", "<R><nextToken>again</nextToken></R>", "<Response><Errors><Error><Code>Throttling</Code></Error></Errors></Response>", "{}", "\x00\xff"}
	for _, body := range fullest() {
		seeds = append(seeds, body)
	}
	return seeds
}

// FuzzAnswers has EC2 return any response to every call. Each call must end, and none may
// return a resource without an ID.
func FuzzAnswers(f *testing.F) {
	for _, seed := range everySeed() {
		f.Add(http.StatusOK, []byte(seed))
		f.Add(http.StatusBadRequest, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		alone(t)
		server := httptest.NewServer(answering(status, body))
		defer server.Close()
		a := access(server.URL)
		a.InstanceID, a.MaxRetries = "i-0123", 1
		opts := everything()
		opts.SourceAMIFilter = SourceFilterConfig{Filters: map[string]string{"name": "*"}, MostRecent: true}
		opts.AMIArchitecture, opts.EncryptBoot, opts.AMIRegions = "arm64", config.TriTrue, []string{"us-east-1"}
		opts.AMIBlockDeviceMappings = []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdh", SnapshotID: "snap-mine"}}}
		client := dial(t, a)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if ids := everyCall(ctx, NewCloud(client, &opts, nil)); slices.Contains(ids, "") {
			t.Errorf("something without an id: %q", ids)
		}
		if ctx.Err() != nil {
			t.Error("the calls have no end")
		}
	})
}

// answering returns the same response to every request.
func answering(status int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		if status >= 200 && status < 600 {
			w.WriteHeader(status)
		}
		_, _ = w.Write(body)
	}
}

// FuzzMetadata has the metadata service return any response, including the session's token.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{"", "{}", "null", document, "i-0123\n", "<html>", `{"instanceId":1}`, "\x00\r\n"} {
		f.Add(http.StatusOK, []byte(seed))
		f.Add(http.StatusNotFound, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		alone(t)
		server := httptest.NewServer(answering(status, body))
		defer server.Close()
		t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		here, err := dial(t, access(server.URL)).identity(ctx)
		if (err == nil) == (here.instance == "") || ctx.Err() != nil {
			t.Errorf("%+v, %v", here, err)
		}
	})
}
