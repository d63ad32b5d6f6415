package api

import (
	"context"
	"net/http"

	"qlbaas/lbaas"
)

// routerInterface plugs and unplugs routers. Neither body nor answer has an envelope.
func (s *server) routerInterface(do func(ctx context.Context, c lbaas.Caller, id string,
	body map[string]any) (lbaas.Object, error),
) operation {
	return func(r *request) (int, any, error) {
		shown, err := do(r.Context(), r.caller, r.PathValue("id"), r.body)
		return http.StatusOK, shown, err
	}
}
