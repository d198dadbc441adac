module componentlease.io/hack/images

go 1.25.0
