package lbaas

import (
	"context"
	"time"
)

// agentRecord is what stays of the agent between its runs.
type agentRecord struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// agentTime is how the API writes times (UTC).
const agentTime = "2006-01-02 15:04:05"

// prepare makes the agent's record when the store is used for the first time.
func (s *Service) prepare(ctx context.Context) error {
	read := func(tx Tx) error {
		_, err := getJSON(tx, bucketMeta, "agent", &s.agent)
		return err
	}
	if err := s.opts.Store.View(ctx, read); err != nil || s.agent.ID != "" {
		return err
	}
	made := agentRecord{ID: newUUID(), Created: s.started}
	err := s.opts.Store.Update(ctx, func(tx Tx) error {
		return putJSON(tx, bucketMeta, "agent", made)
	})
	s.agent = made
	return err
}

// Agents lists the agents: there is this one. It is for administrators only.
func (s *Service) Agents(ctx context.Context, c Caller) ([]Object, error) {
	if !c.Admin {
		return nil, refuse(errPolicy, "Only an administrator may see agents")
	}
	var instances int64
	err := s.view(ctx, c, func(v view) error {
		instances = 0
		for range v.tx.Scan(bucketVIPs, "") {
			instances++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []Object{{
		"id": s.agent.ID, "agent_type": "Loadbalancer agent", "binary": "qlbaas", "host": s.opts.Host,
		"topic": "n-lbaas_agent", "admin_state_up": true, "alive": true, "description": nil,
		"created_at": s.agent.Created.UTC().Format(agentTime),
		"started_at": s.started.UTC().Format(agentTime),
		// The agent answers itself: its heart beats now.
		"heartbeat_timestamp": time.Now().UTC().Format(agentTime),
		"configurations":      Object{"device_drivers": []string{"qlbaas"}, "instances": instances},
	}}, nil
}

// Agent shows one agent.
func (s *Service) Agent(ctx context.Context, c Caller, id string) (Object, error) {
	agents, err := s.Agents(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, a := range agents {
		if a["id"] == id {
			return a, nil
		}
	}
	return nil, refuse(errAgentNotFound, "Agent %s could not be found", quote(id))
}

// AgentOf shows the agent that hosts a pool.
func (s *Service) AgentOf(ctx context.Context, c Caller, poolID string) (Object, error) {
	agents, err := s.Agents(ctx, c)
	if err != nil {
		return nil, err
	}
	if _, err := s.Show(ctx, c, Pools, poolID, []string{"id"}); err != nil {
		return nil, err
	}
	return agents[0], nil
}

// PoolsOn lists the pools that an agent hosts.
func (s *Service) PoolsOn(ctx context.Context, c Caller, agentID string, q Query) (Page, error) {
	if _, err := s.Agent(ctx, c, agentID); err != nil {
		return Page{}, err
	}
	return s.List(ctx, c, Pools, q)
}
